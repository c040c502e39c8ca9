/*
 * A small copy in memory, a core that judges by it, and modules that do as a test says: what test_request.c and
 * test_request_stacks.c stand on. One world at a time.
 *
 * Modules, each line with `n=` the number of its play: `id` identifies (group key), may wait; `say` stands elsewhere;
 * `later` elsewhere, may wait; `again` elsewhere, is asked again.
 */
#ifndef APIKEYD_TESTS_UNIT_REQUEST_WORLD_H
#define APIKEYD_TESTS_UNIT_REQUEST_WORLD_H

#include "daemon/request.h"
#include "tests/unit/policy_text.h"

enum { NOW_S = 1700000000, PLAYS = 12, TOKENS = 16 };
#define US(seconds) ((int64_t)(seconds)*1000000)
#define PEPPER_1    "1 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n"
#define PEPPER_2    "2 ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1eff\n"

/* What a line does, and what was done to it. */
struct play {
	int code; /* of enum apikeyd_code, or of none */
	const struct apikeyd_principal *principal;
	int64_t ends_in_us; /* the principal's end, from the request's now; 0: as it stands there */
	bool store;	    /* has the store prove the key */
	uint64_t retry_after_ms;
	const char *detail;

	struct apikeyd_self *self;
	const struct apikeyd_host *host;
	unsigned asked, cancelled, ended, opened, closed;
	int granted; /* what host->grant said */
	uint64_t tokens[TOKENS], cancelled_token;
	enum apikeyd_code reason_code; /* audit, ended */
	bool stale;
};

extern struct play plays[PLAYS];
extern const struct apikeyd_module *const play_modules[];

struct world {
	uv_loop_t loop;
	struct config *config;
	struct secret *secret;
	char pepper_file[32];
	struct mirror mirror;
	struct request_core core;
	struct request_owner owner;
	struct rpc_decoder *decoder;
	struct rpc_buffer out, late;
	struct arena arena;
	unsigned hurried, flushed, answered;
	uint32_t next_key;
};

/* With the pepper PEPPER_1 and the stack policy_text_plain. */
struct world *world_new(bool loaded, const char *config);
/* The core's pepper is the caller's to change, with what this leaves in w->secret. */
void load_pepper(struct world *w, const char *lines);
void world_end(struct world *w);
/* The stack `default` is these lines from now on. */
void world_stack(struct world *w, const char *lines);

struct rpc_text text(const char *s);
struct apikeyd_text module_text(const char *s);
/* A key of its own for each call: its text goes to `ret`, the row may be changed by `change`. */
void add_key(struct world *w, struct copy *copy, enum key_kind kind, int64_t owner, const char *access,
	     void (*change)(struct copy_key_row *row), char ret[KEYTEXT_MAX + 1]);
/* Adds a key and publishes it as the next revision. */
void publish_key(struct world *w, enum key_kind kind, int64_t owner, const char *access,
		 void (*change)(struct copy_key_row *row), char ret[KEYTEXT_MAX + 1]);
/* What looks like a key of that kind, and is nobody's. */
void make_key(enum key_kind kind, char ret[KEYTEXT_MAX + 1]);
/* Publishes what was put into the copy. */
void publish(struct world *w);

struct rpc_request check(const char *key, const char *scope, const char *page);
/* Asks, and reads the answer that must come at once. */
struct rpc_answer ask(struct world *w, const struct rpc_request *request);
/* Asks what must wait. */
void ask_later(struct world *w, const struct rpc_request *request);
/* The next answer in `from`, which is used up after its last item. */
struct rpc_answer read_answer(struct world *w, struct rpc_buffer *from, uint32_t item);
/* All items of the next one, a list of `count`. */
void read_answers(struct world *w, struct rpc_buffer *from, struct rpc_answer *ret, uint32_t count);
void run_until_answered(struct world *w, unsigned count);
/* Until so many answers of modules were dropped. */
void run_until_late(struct world *w, unsigned count);
/* Completes a play's token; the loop has not run since. */
void complete(unsigned play, unsigned token, int code);

#define assert_reason(answer, want) assert_string_equal(reason_word((answer).reason), reason_word(want))

#endif
