/*
 * apikeyd-module.h: how to write a policy module for apikeyd. This one header is all that a module includes.
 *
 * A module is a shared object in the module directory (apikeyd.conf, [stacks] module_dir) that exports one symbol,
 *
 *     const struct apikeyd_module apikeyd_module = {.abi = APIKEYD_ABI, .size = sizeof(struct apikeyd_module), ...};
 *
 * and is called by the name of its file: `frob.so` stands in a stack file as `frob`. Modules that come with the daemon
 * are built in by the same struct; the stack engine cannot tell the two apart. Two small ones stand beside the
 * library's examples; apikeyd-stacks(5) says what the lines of a stack mean, apikeyd-modules(7) what modules there are.
 *
 * What a module may do. A module that identifies (group `key`) says whose key it is; every other module can only take
 * away: the daemon judges the platform's rule itself, and nothing that a module returns makes more of a key than the
 * rule allows.
 *
 * Life. `open` is called once for each line of a stack file that names the module, when the stacks are loaded; `start`
 * once for each request (and pair of check_many) that comes to the line; `close` once, when no request uses that line
 * any more. A reload that leaves a line as it is leaves its instance, with whatever it remembers, in place.
 *
 * Threads. All functions of a module are called on the daemon's one thread and must not block: a look-up that takes
 * time returns APIKEYD_PENDING and completes later. host->complete alone may be called from any thread.
 *
 * Memory. What a struct points to is borrowed for the call, unless a line below says otherwise. Text is not
 * terminated. Structs begin with their size: a field past it is not there, and a later release adds fields at the end
 * alone. A struct that this header's user fills in must be zeroed first.
 *
 * Confinement. What is opened, loaded or mapped by the first `open`s is there; then the daemon confines itself (apikeyd(8)).
 * From then on a module reads what the daemon reads, and what is in the directories of its arguments of type path; it
 * starts no process (host->program does), loads no library, and makes no memory executable. Files to write, ports to connect to and
 * the like are the administrator's to allow ([confine] in apikeyd.conf). Threads are to be started with the first request,
 * not in `open`: those that are there before are not confined as the rest is, and the log says so.
 *
 * Exceptions and longjmp must not leave a module. What a module prints or logs must never hold a key's text.
 */
#ifndef APIKEYD_MODULE_H
#define APIKEYD_MODULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A daemon loads modules of its own number alone: it is raised when an old module could misread something. */
#define APIKEYD_ABI 1

/*
 * What a module says. Each word but `success`, `ignore` and `pending` is a reason of the verdict (PROTOCOL.md), one to
 * one. Zero is a refusal. A number that is not here counts as APIKEYD_MODULE_FAULT.
 */
enum apikeyd_code {
	APIKEYD_POLICY = 0,  /* deny: a rule of the module's own */
	APIKEYD_SUCCESS = 1, /* nothing against it; from a module that identifies: whose it is was granted */
	APIKEYD_IGNORE = 2,  /* no opinion */
	APIKEYD_PENDING = 3, /* from `start` alone: host->complete follows */

	/* deny: a decision */
	APIKEYD_MALFORMED_KEY = 8,
	APIKEYD_UNKNOWN_KEY,
	APIKEYD_REVOKED,
	APIKEYD_RETIRED,
	APIKEYD_DISABLED,
	APIKEYD_NOT_YET_VALID,
	APIKEYD_EXPIRED,
	APIKEYD_USER_SUSPENDED,
	APIKEYD_NETWORK,
	APIKEYD_UNKNOWN_SCOPE,
	APIKEYD_UNKNOWN_PAGE,
	APIKEYD_NOT_MEMBER,
	APIKEYD_ORG_SUSPENDED,
	APIKEYD_PAGE_ARCHIVED,
	APIKEYD_PAGE_NOT_GRANTED,
	APIKEYD_SCOPE_NOT_GRANTED,
	APIKEYD_RATE_LIMITED,
	APIKEYD_CALLER,
	APIKEYD_NO_STACK,

	/* unavailable: a fault, nobody could decide */
	APIKEYD_NOT_LOADED = 40,
	APIKEYD_STALE,
	APIKEYD_BEHIND,
	APIKEYD_TIMEOUT,
	APIKEYD_OVERLOAD,
	APIKEYD_MODULE_FAULT,
	APIKEYD_AUDIT_FULL,
	APIKEYD_NO_PEPPER,

	APIKEYD_CODE_END = 64 /* not a code: all are below */
};

/* Groups of a stack, in the order in which they are judged; bits of apikeyd_module.groups. */
enum apikeyd_group {
	APIKEYD_GROUP_CALLER = 1,
	APIKEYD_GROUP_KEY = 2,
	APIKEYD_GROUP_ACCOUNT = 4,
	APIKEYD_GROUP_PAGE = 8,
	APIKEYD_GROUP_SCOPE = 16,
	APIKEYD_GROUP_AUDIT = 32,
};

/* Bits of apikeyd_module.flags. */
enum apikeyd_flag {
	/* May stand in `key`, and there alone: its success comes with host->grant or host->store. */
	APIKEYD_IDENTIFIES = 1,
	/* May return APIKEYD_PENDING. */
	APIKEYD_ASYNCHRONOUS = 2,
	/*
	 * Is asked again when a request that had to wait is judged again. Any other module is asked once a request, and
	 * its code kept: so a rate is spent once.
	 */
	APIKEYD_ASK_AGAIN = 4,
	/* Its success in `account` means that the key's own rate (apikeyd_request.rate_count) was charged and holds. */
	APIKEYD_ENFORCES_RATE = 8,
};

struct apikeyd_text {
	const char *data; /* NULL: not there. Empty text has data and len 0 */
	uint32_t len;	  /* bytes */
};

struct apikeyd_addr {
	uint8_t family; /* 0: none given; 4: bytes[0..3]; 6: bytes[0..15] */
	uint8_t bytes[16];
};

struct apikeyd_network {
	uint8_t family; /* 4 or 6 */
	uint8_t prefix; /* bits */
	uint8_t bytes[16];
};

/* ---- arguments ---- */

enum apikeyd_type {
	APIKEYD_TYPE_TEXT = 0, /* anything; `check` says more */
	APIKEYD_TYPE_WORD,     /* one of `words` */
	APIKEYD_TYPE_BOOL,     /* yes or no */
	APIKEYD_TYPE_COUNT,    /* a whole number, min to max */
	APIKEYD_TYPE_TIME,     /* with a unit, ms s min h d; in milliseconds, min to max */
	APIKEYD_TYPE_PATH,     /* absolute; what is in its directory can be read, see below */
	APIKEYD_TYPE_LIST,     /* words, comma-separated, none empty */
	APIKEYD_TYPE_SCOPES,   /* patterns of scopes, comma-separated: `*`, `incident:*`, `*:write`, `incident:write` */
	APIKEYD_TYPE_RATE,     /* COUNT/UNIT, such as 100/s, 5/min, 1000/h, 1/5s */
};

/* One argument `name=value` of a line. A table of them ends with a name of NULL. */
struct apikeyd_argument {
	const char *name;
	enum apikeyd_type type;
	const char *fallback; /* as it would be written; NULL: none, and then value.given is false, or see `required` */
	bool required;
	uint64_t min, max; /* COUNT, TIME; max 0: no limit */
	const char *words; /* WORD: "one|or|another" */
	const char *help;  /* one line, for `apikeyctl modules` and the manual */
};

struct apikeyd_value {
	bool given; /* in the file, or by the fallback */
	/* TEXT, WORD, PATH, and the whole of LIST and SCOPES; terminated. Good as long as the instance. */
	const char *text;
	uint64_t number;	  /* BOOL (0, 1), COUNT, TIME (ms), RATE (how many) */
	uint64_t period_us;	  /* RATE: in how many microseconds */
	const char *const *items; /* LIST, SCOPES: terminated each */
	uint32_t item_count;
};

/* ---- a request ---- */

enum apikeyd_kind { APIKEYD_KIND_NONE = 0, APIKEYD_KIND_USER, APIKEYD_KIND_ORGANIZATION, APIKEYD_KIND_BREAK_GLASS };

struct apikeyd_request {
	uint32_t size;
	enum apikeyd_group group;   /* in which the line stands */
	struct apikeyd_text method; /* "check", "check_many", "pages", "whoami" */
	struct apikeyd_text stack;  /* the stack's name */
	bool explain; /* only looked at: spend nothing, remember nothing, write nothing down; host->detail is read */

	/* the caller, as the kernel says; gids are its supplementary groups, its gid not always among them */
	uid_t uid;
	gid_t gid;
	pid_t pid;
	const gid_t *gids;
	uint32_t gid_count;
	bool gids_known; /* false: they could not be read */

	/* the question; what was not asked is absent */
	struct apikeyd_text key;    /* the key's text: in group `key` alone. Never to be written anywhere */
	struct apikeyd_text key_id; /* public; absent where the text is no key */
	char key_letter;	    /* kind as the text says it: 'u', 'o', 'b'; 0: the text is no key */
	struct apikeyd_text scope;  /* in page, scope and audit. `whoami` has none */
	struct apikeyd_text page;   /* in page, scope and audit; absent: organization level */
	struct apikeyd_text org;    /* context org */
	struct apikeyd_addr addr;   /* context addr: of the remote client that presented the key */
	uint64_t cost;		    /* what it costs in a rate: context cost, times the pairs of check_many */

	/* time and the copy */
	int64_t now_us;	 /* the database's time, microseconds since 1970 UTC; where never loaded, this host's */
	int64_t boot_us; /* CLOCK_BOOTTIME, microseconds */
	uint64_t rev;	 /* of the copy; 0: never loaded */
	uint64_t age_ms; /* since the copy was last confirmed */

	/* whose key it is: from `account` on; in audit where it was proven */
	enum apikeyd_kind kind;
	struct apikeyd_text key_org;  /* organization and break-glass keys: slug */
	struct apikeyd_text key_user; /* user keys: e-mail address */
	uint64_t rate_count;	      /* the key's own rate: how often in rate_period_us; 0: not narrowed */
	uint64_t rate_period_us;

	/* audit, and `ended`: what the answer is */
	struct apikeyd_text verdict, reason; /* words of the protocol */
	enum apikeyd_code reason_code;	     /* APIKEYD_SUCCESS for `ok` */

	/*
	 * The copy is older than max_stale_ms, and offline_grace lets it answer all the same. In audit, and `ended`:
	 * whether the answer is marked so.
	 */
	bool stale;
};

/*
 * Whose key it is, as a module that identifies says it. The daemon looks the names up in its copy and judges the
 * rule for them: a principal that the copy does not know is `unknown_key`, and one of a copy that is too old is the
 * fault that the copy has (`stale` where it is one that it does not know, within offline_grace). Arrays are copied by host->grant.
 */
struct apikeyd_principal {
	uint32_t size;
	enum apikeyd_kind kind;
	int64_t user_id;		  /* USER: apikeyd.user.id */
	struct apikeyd_text organization; /* ORGANIZATION, BREAK_GLASS: slug */
	bool writes;			  /* ORGANIZATION: access `write`, else `read` */
	/* narrowing: a flag with no rows allows nothing. BREAK_GLASS must be narrowed to pages and to scopes */
	bool narrowed_pages, narrowed_scopes, narrowed_networks;
	const struct apikeyd_text *pages;  /* slugs */
	const struct apikeyd_text *scopes; /* names, no patterns */
	const struct apikeyd_network *networks;
	uint32_t page_count, scope_count, network_count; /* each at most APIKEYD_NARROWING_MAX */
	int64_t not_before_us,
		expires_at_us; /* microseconds since 1970 UTC; 0: none. BREAK_GLASS must end within 24 h */
};

enum { APIKEYD_NARROWING_MAX = 256 };

/* What host->complete brings. */
struct apikeyd_answer {
	uint32_t size;
	enum apikeyd_code code;			   /* APIKEYD_PENDING is a fault */
	uint64_t retry_after_ms;		   /* 0: nothing said */
	const struct apikeyd_principal *principal; /* success of a module that identifies; copied */
	const char *detail;			   /* one line for `explain`, terminated; NULL: none; copied */
};

/* ---- what the daemon does for a module ---- */

struct apikeyd_self; /* one instance of a module, as the daemon knows it: the first argument of all of these */

enum apikeyd_level { APIKEYD_LOG_ERROR = 0, APIKEYD_LOG_WARNING, APIKEYD_LOG_INFO, APIKEYD_LOG_DEBUG };

enum apikeyd_event { APIKEYD_READABLE = 1, APIKEYD_WRITABLE = 2 }; /* bits */
typedef void (*apikeyd_ready)(void *data, int fd, unsigned events);

enum { APIKEYD_HASH_LEN = 32 };

struct apikeyd_host {
	uint32_t size;

	/* One line to the daemon's log, with the stack, the line and the module before it. Terminated. */
	void (*log)(struct apikeyd_self *self, enum apikeyd_level level, const char *line);
	/*
	 * From `start`: when asking again may help, should this line refuse. Milliseconds. `retry_after_ms` of the
	 * answer is the longest of all lines that refused.
	 */
	void (*retry_after)(struct apikeyd_self *self, const struct apikeyd_request *request, uint64_t ms);
	/* From `start`, where request->explain: one line for people about the code that follows. Copied. */
	void (*detail)(struct apikeyd_self *self, const struct apikeyd_request *request, const char *line);

	/* ---- for modules that identify, from `start` ---- */

	/* Names the principal of the APIKEYD_SUCCESS that follows. 0; -EINVAL: it is none that can be; -ENOMEM. */
	int (*grant)(struct apikeyd_self *self, const struct apikeyd_request *request,
		     const struct apikeyd_principal *principal);
	/*
	 * Looks the key up in the daemon's own copy of the store and proves it: APIKEYD_SUCCESS with the principal
	 * granted, APIKEYD_UNKNOWN_KEY, or the fault that the copy has.
	 */
	enum apikeyd_code (*store)(struct apikeyd_self *self, const struct apikeyd_request *request);
	/* The keyed hash of the request's key under a version of the pepper, as the store keeps it. 0, or -ENOENT. */
	int (*hash)(struct apikeyd_self *self, const struct apikeyd_request *request, uint16_t pepper,
		    uint8_t ret[APIKEYD_HASH_LEN]);

	/* ---- for asynchronous modules ---- */

	/*
	 * Brings the code of a request whose `start` returned APIKEYD_PENDING. Exactly once for each; what comes after
	 * the request's end, or a second time, is counted and dropped, whenever it comes. From any thread. `start`
	 * itself must not complete its own token.
	 */
	void (*complete)(struct apikeyd_self *self, uint64_t token, const struct apikeyd_answer *answer);
	/*
	 * Calls `ready` on the daemon's thread while `fd` has one of `events`. One watch a descriptor; a second call
	 * changes it; events 0 ends it, which must come before the descriptor is closed. 0, or -errno. Not from other
	 * threads. A timer is a timerfd.
	 */
	int (*watch)(struct apikeyd_self *self, int fd, unsigned events, apikeyd_ready ready, void *data);
	/*
	 * Makes a program known (argv[0]: its absolute path; argv ends with NULL). From `open` alone: the daemon may
	 * confine itself later, and then what was told here is all that can be started. 0 with *ret_program, a number
	 * to start it with; or -errno with one line in `error` that says of which file what is wrong: behind the name
	 * of the argument and a colon, it is what `open` has to say.
	 */
	int (*program)(struct apikeyd_self *self, const char *const *argv, uint32_t *ret_program, char *error,
		       size_t error_size);
	/*
	 * Starts it once more, with its standard input and output on one socket, whose other end is *ret_fd:
	 * non-blocking, a stream, the module's to close, which ends the program; standard error is the daemon's. 0, or
	 * -errno with one line in `error`; -ENOTSUP where the stacks are only tested and nothing is started.
	 */
	int (*run)(struct apikeyd_self *self, uint32_t program, int *ret_fd, char *error, size_t error_size);

	/* ---- the log, again ---- */

	/*
	 * As `log`, of a line about a request. Where the log is the systemd journal, what is known of the request goes along
	 * as fields (APIKEYD_KEY_ID, APIKEYD_REASON, APIKEYD_CALLER_UID and others), to be looked for; the line itself has
	 * to say all the same what people need.
	 */
	void (*log_request)(struct apikeyd_self *self, enum apikeyd_level level, const struct apikeyd_request *request,
			    const char *line);
};

/* ---- a module ---- */

struct apikeyd_module {
	uint32_t abi;				  /* APIKEYD_ABI */
	uint32_t size;				  /* sizeof(struct apikeyd_module) */
	const char *name;			  /* lower case letters, digits and '_', at most 32 */
	const char *help;			  /* one line: what it does */
	unsigned groups;			  /* bits of apikeyd_group: where it may stand */
	unsigned flags;				  /* bits of apikeyd_flag */
	const struct apikeyd_argument *arguments; /* NULL: it takes none */

	/*
	 * Looks at the arguments as far as that needs nothing of this host (`apikeyctl stack check` runs anywhere).
	 * 0, or -EINVAL with one line in `error`: "argument: what is wrong with its value, what would be right", which
	 * is told with the file, the line and the column of that argument. What could only fail when requests come is
	 * to be refused here. `group`: in which the line stands; `values` are in the order of `arguments`. NULL: the
	 * types say it all.
	 */
	int (*check)(enum apikeyd_group group, const struct apikeyd_value *values, char *error, size_t error_size);
	/*
	 * Makes an instance for one line. 0 with *ret_instance (may stay NULL), or -errno with one line in `error`, as
	 * `check` has it, which refuses the whole set of stacks. `host` and `self` live as long as the instance. NULL:
	 * there is none.
	 */
	int (*open)(struct apikeyd_self *self, const struct apikeyd_host *host, const struct apikeyd_value *values,
		    void **ret_instance, char *error, size_t error_size);
	/*
	 * Judges one request. `token` names it to host->complete, where APIKEYD_PENDING is returned; the request is
	 * gone when `start` returns: what is needed later must be copied.
	 */
	enum apikeyd_code (*start)(void *instance, const struct apikeyd_request *request, uint64_t token);
	/* The answer to `token` is wanted no more: deadline, client gone, daemon stopping. NULL: does not care. */
	void (*cancel)(void *instance, uint64_t token);
	/*
	 * Told once about each verdict of a stack in which the module stands (each pair of check_many; not `explain`),
	 * whether or not its line was reached. Changes nothing. NULL: does not care.
	 */
	void (*ended)(void *instance, const struct apikeyd_request *request);
	/* Ends the instance; all its requests have ended before. NULL: nothing to do. */
	void (*close)(void *instance);
};

/* What a shared object exports, under the name of APIKEYD_MODULE_SYMBOL. */
#define APIKEYD_MODULE_SYMBOL "apikeyd_module"
#if defined(__GNUC__)
#define APIKEYD_EXPORT __attribute__((visibility("default")))
#else
#define APIKEYD_EXPORT
#endif

#ifdef __cplusplus
}
#endif

#endif
