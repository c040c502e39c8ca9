/* What glass.c and glass_word.c share: the forms of single words. */
#ifndef APIKEYD_DAEMON_MODULES_GLASS_INTERNAL_H
#define APIKEYD_DAEMON_MODULES_GLASS_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>

bool glass_is_alnum(char c);
bool glass_is_slug(const char *text, size_t len);

#endif
