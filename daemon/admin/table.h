/*
 * The table of administration methods: what a row of it says, and the tools that the nouns' parts of it share.
 *
 * Inside admin/ only: each noun's file exports its part of the table, params.c reads parameters by it with fits.c, admin.c runs
 * it. A method is one SQL statement; what cannot be said in SQL (a minted key) hangs on the row as a function. One that
 * needs no database is a function alone.
 *
 * Always holds: parameter i of a row is $i+1 of its SQL, as text, NULL where it was not given.
 *
 * What the SQL answers: one map a row by column name. Columns with a meaning of their own, that callers never see:
 *   fault, fault_code  what was asked for cannot be done, and why; then nothing was changed
 *   cursor             a row's place in a list; a row where it is null is no row
 * A column "a.b" becomes the field b of the map a, and is left out where it is null.
 */
#ifndef APIKEYD_DAEMON_ADMIN_TABLE_H
#define APIKEYD_DAEMON_ADMIN_TABLE_H

#include "daemon/admin/admin.h"

enum {
	ADMIN_PARAMS_MAX = 16, /* of a method, with what its `extra` adds */
	ADMIN_LIST_MAX = 1024, /* items of a list parameter */
	ADMIN_NAME_MAX = 200,  /* bytes of a display name */
	ADMIN_EMAIL_MAX = 254,
	ADMIN_SLUG_MAX = 63, /* a DNS label: a page's slug is its subdomain */
};

enum admin_type {
	ADMIN_TEXT,  /* checked by `fits` */
	ADMIN_INT,   /* from min to max */
	ADMIN_LIMIT, /* an integer from 1 to database.admin_rows: how many rows a list answers */
	ADMIN_TIME,  /* RFC 3339 text, or seconds since 1970; reaches SQL as text */
	ADMIN_TEXTS, /* a list of text; reaches SQL as JSON */
	ADMIN_MAP,   /* of integers; reaches SQL as JSON */
};

struct admin_param {
	const char *name;
	enum admin_type type;
	bool required;
	bool (*fits)(const char *text, size_t len); /* TEXT and each item of TEXTS */
	const char *right;			    /* completes "...: it must be" */
	int64_t min, max;			    /* INT */
	const struct admin_param *fields;	    /* MAP: ends with a nameless one; all are needed */
};

/* One request on its way. Everything that it points to lives in `arena`, which is wiped when it goes. */
struct admin_request {
	struct admin *admin;
	const struct admin_method *method;
	struct arena arena;
	const char *params[ADMIN_PARAMS_MAX];
	unsigned param_count;
	uint32_t limit; /* of a list */
	uid_t uid;
	char actor[24];
	admin_done done;
	void *data;
	/* key_mint */
	const char *key; /* the text, to be shown once */
	unsigned attempts;
	/* what was known before there was anything to wait for: answered from the next turn */
	struct rpc_error error;
	struct value answer;
	uv_timer_t turn;
};

enum admin_answer {
	ADMIN_ROW,  /* the row's fields; no row: not found */
	ADMIN_ROWS, /* {rows, next} */
};

struct admin_method {
	const char *name; /* as on the wire: noun_verb */
	const char *help;
	const struct admin_param *params; /* ends with a nameless one */
	const char *sql;
	bool change;
	bool writes; /* no change that daemons follow, but nothing for a transaction that only reads */
	enum admin_answer answer;
	const char *noun;   /* for "no <noun> '<first parameter>'" */
	const char *naming; /* the parameter that may name what exists already; NULL: none can */
	const char *named;  /* ... and what that is: "organization" */
	unsigned any_from;  /* not 0: of the parameters from this index on, at least one must be given */
	/* Parameters that do not agree with each other: false, and says why. NULL: any do. */
	bool (*agree)(const struct admin_request *request, struct rpc_error *error);
	/* Adds parameters of its own behind the table's; is called again for another attempt. NULL: none. */
	bool (*extra)(struct admin_request *request);
	/* Answers by itself, without SQL: false with *error. *ret is in the request's arena. NULL: the database answers. */
	bool (*local)(struct admin_request *request, struct value *ret, struct rpc_error *error);
};

/* The nouns' parts of the table; each ends with a nameless method. */
extern const struct admin_method admin_org_methods[];
extern const struct admin_method admin_page_methods[];
extern const struct admin_method admin_user_methods[];
extern const struct admin_method admin_member_methods[];
extern const struct admin_method admin_key_methods[];
extern const struct admin_method admin_break_glass_methods[];
extern const struct admin_method admin_verify_copy_methods[], admin_history_methods[], admin_ledger_methods[];
extern const struct admin_method admin_daemon_methods[];

/* NULL for a name that is in no part. `name` need not be terminated. */
const struct admin_method *admin_method_find(const char *name, size_t len);

/* Where a method's table says how it is called: $i+1 is the parameter `name`. NULL where it was not given. */
const char *admin_given(const struct admin_request *request, const char *name);

/*
 * Reads the parameters into request->params, by request->method. False with *error saying method, parameter, value
 * and what would be right (RPC_BAD_PARAMS), or RPC_INTERNAL where there is no memory.
 */
bool admin_read_params(struct admin_request *request, const struct value *params, struct rpc_error *error);

/* Builds the answer of a successful call into the request's arena. False with *error: not found, a fault, memory. */
bool admin_build(struct admin_request *request, const struct writer_result *result, struct value *ret,
		 struct rpc_error *error);

__attribute__((format(printf, 3, 4))) void admin_error(struct rpc_error *error, enum rpc_error_code code,
						       const char *format, ...);

/*
 * Writes `text` for a message: quoted, control characters escaped, cut when long. What could be a key is not shown.
 * Returns `out`, which takes `size` bytes.
 */
const char *admin_show(const char *text, size_t len, char *out, size_t size);

/* A secret is 43 base62 characters in a row: as many as that are never shown, whatever stands round them. */
bool admin_could_be_key(const char *text, size_t len);

/* What fits; words for `right` stand beside them. */
bool admin_fits_slug(const char *text, size_t len);
bool admin_fits_email(const char *text, size_t len);
bool admin_fits_name(const char *text, size_t len);
bool admin_fits_word(const char *text, size_t len);
bool admin_fits_scope(const char *text, size_t len);
bool admin_fits_network(const char *text, size_t len);
bool admin_fits_key_id(const char *text, size_t len);
bool admin_fits_key_kind(const char *text, size_t len);
bool admin_fits_standing(const char *text, size_t len);	     /* active | suspended */
bool admin_fits_page_standing(const char *text, size_t len); /* active | archived */
bool admin_fits_after(const char *text, size_t len);
bool admin_fits_time(const char *text, size_t len); /* RFC 3339 */

#define ADMIN_SLUG_RIGHT     "1 to 63 of a-z 0-9 -, neither first nor last a -"
#define ADMIN_EMAIL_RIGHT    "an e-mail address of at most 254 characters"
#define ADMIN_NAME_RIGHT     "1 to 200 bytes of UTF-8 on one line, and not a key"
#define ADMIN_WORD_RIGHT     "a word of a-z 0-9 _ of at most 32 characters"
#define ADMIN_SCOPE_RIGHT    "resource:action, of a-z 0-9 _ -, at most 64 characters"
#define ADMIN_NETWORK_RIGHT  "a network such as 192.0.2.0/24 or 2001:db8::/32, no bit set behind the prefix"
#define ADMIN_KEY_ID_RIGHT   "a key_id: 10 characters of 0-9 A-Z a-z (never the key itself)"
#define ADMIN_TIME_RIGHT     "a time such as 2030-01-31T12:00:00Z, or seconds since 1970"
#define ADMIN_STANDING_RIGHT "active or suspended"

/* Parameters that several methods take. */
#define ADMIN_PARAM_ORG(needed)                                                                                        \
	{                                                                                                              \
		"org", ADMIN_TEXT, needed, admin_fits_slug, ADMIN_SLUG_RIGHT, 0, 0, NULL                               \
	}
#define ADMIN_PARAM_PAGE(needed)                                                                                       \
	{                                                                                                              \
		"page", ADMIN_TEXT, needed, admin_fits_slug, ADMIN_SLUG_RIGHT, 0, 0, NULL                              \
	}
#define ADMIN_PARAM_USER(needed)                                                                                       \
	{                                                                                                              \
		"user", ADMIN_TEXT, needed, admin_fits_email, ADMIN_EMAIL_RIGHT, 0, 0, NULL                            \
	}
#define ADMIN_PARAM_NAME                                                                                               \
	{                                                                                                              \
		"name", ADMIN_TEXT, false, admin_fits_name, ADMIN_NAME_RIGHT, 0, 0, NULL                               \
	}
#define ADMIN_PARAM_SLUG                                                                                               \
	{                                                                                                              \
		"slug", ADMIN_TEXT, false, admin_fits_slug, ADMIN_SLUG_RIGHT, 0, 0, NULL                               \
	}
#define ADMIN_PARAM_AFTER                                                                                              \
	{                                                                                                              \
		"after", ADMIN_TEXT, false, admin_fits_after, "what `next` said", 0, 0, NULL                           \
	}
#define ADMIN_PARAM_LIMIT                                                                                              \
	{                                                                                                              \
		"limit", ADMIN_LIMIT, false, NULL, NULL, 0, 0, NULL                                                    \
	}
#define ADMIN_PARAM_END                                                                                                \
	{                                                                                                              \
		NULL, ADMIN_TEXT, false, NULL, NULL, 0, 0, NULL                                                        \
	}

/* A time as answers carry it; null for none. */
#define ADMIN_SQL_TIME(column)                                                                                         \
	"case when isfinite(" column ") then to_char(" column                                                          \
	" at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') end"
/* Ends a statement with a CTE fault(n, code, message) and one `done` that has a column cursor. */
#define ADMIN_SQL_ANSWER                                                                                               \
	" select f.code as fault_code, f.message as fault, d.*"                                                        \
	" from (values (1)) as one"                                                                                    \
	" left join (select code, message from fault order by n limit 1) as f on true"                                 \
	" left join done as d on true order by d.cursor collate \"C\""

#endif
