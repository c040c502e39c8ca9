/*
 * Values as JSON, for --json. All memory that jansson uses is wiped when it goes: an answer may hold a minted key.
 */
#ifndef APIKEYCTL_JSONOUT_H
#define APIKEYCTL_JSONOUT_H

#include <jansson.h>

#include "client/apikeyctl/ctl.h"
#include "proto/value.h"

/* Before anything else of jansson. */
void jsonout_init(void);

/* A new reference, or NULL without memory. Bytes that are no UTF-8 become '?'. Fields keep their order. */
json_t *jsonout_of(const struct value *value);

/* Prints a document and a line end, indented; or compact, on one line. Takes the reference. Returns a ctl_exit. */
int jsonout_print(const struct ctl *ctl, json_t *document);
int jsonout_line(const struct ctl *ctl, json_t *document);

/* jsonout_print of a value. */
int jsonout_show(const struct ctl *ctl, const struct value *value);

#endif
