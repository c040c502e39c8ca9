/*
 * A host for one module's line, for tests: types arguments as the daemon does, opens the module, keeps what it says.
 *
 * Owns the line's arguments; the values themselves are gone and poisoned once the module is open, as the ABI lets a
 * daemon do. Fails the test where a module does what it must not: a line break in a log line, more than one code.
 */
#ifndef APIKEYD_TESTS_UNIT_FAKE_HOST_H
#define APIKEYD_TESTS_UNIT_FAKE_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/apikeyd-module.h"
#include "daemon/modules/ledger.h"
#include "proto/value.h"

enum { FAKE_HOST_LINES = 256, FAKE_HOST_TEXT = 2048, FAKE_HOST_VALUES = 32 };

struct fake_host {
	struct ledger_host host;
	const struct apikeyd_module *module;
	void *instance;
	struct arena arena;
	char error[512]; /* of the last fake_open */

	/* what the last fake_ask brought */
	uint64_t retry_ms; /* 0: nothing said */
	char detail[FAKE_HOST_TEXT];

	/* the log since fake_open */
	unsigned line_count;
	enum apikeyd_level levels[FAKE_HOST_LINES];
	char lines[FAKE_HOST_LINES][FAKE_HOST_TEXT];

	/* what host->store answers, and how often it was asked */
	enum apikeyd_code store_code;
	unsigned store_calls;

	/* how the verdict is to be recorded, 0: nobody said so; and what that answers */
	unsigned record_how;
	enum apikeyd_code record_code;
};

/* The next fake_open has a host that can record. */
extern bool fake_records;

/*
 * Opens `module` with "name=value name=value ..."; 0, or -errno with `error`. An argument that the daemon itself would
 * refuse (no such name, wrong type, missing though required) is -EINVAL with `error` "host: ...".
 */
int fake_open(struct fake_host *host, const struct apikeyd_module *module, const char *arguments);
/* In a group other than the last one that the module may stand in. */
int fake_open_in(struct fake_host *host, const struct apikeyd_module *module, enum apikeyd_group group,
		 const char *arguments);
/* The same, and it must succeed. */
void fake_open_good(struct fake_host *host, const struct apikeyd_module *module, const char *arguments);
void fake_close(struct fake_host *host);

enum apikeyd_code fake_ask(struct fake_host *host, const struct apikeyd_request *request);

/* A request to begin with: a live user key "kkkkkkkkkk" of ada@example.org, asked by uid 1000, at boot_us 1 s. */
struct apikeyd_request fake_request(enum apikeyd_group group);

struct apikeyd_text fake_text(const char *text); /* NULL: absent */
struct apikeyd_addr fake_addr(const char *text);

/* Random numbers that a seed repeats. MODULE_SEED of the environment, else one of the clock; printed once. */
uint64_t fake_seed(void);
uint64_t fake_random(uint64_t *state);
uint64_t fake_below(uint64_t *state, uint64_t bound);

#endif
