/*
 * file: break-glass keys, out of a file on this host. For when the store cannot be reached; they need no copy.
 *
 * The file is looked at where the text is of a break-glass key, and read again where it has changed. It is whole or at
 * fault: with one wrong line in it no key of it is good. A file that is not there holds no keys.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "daemon/modules/glass.h"
#include "daemon/modules/table.h"
#include "daemon/trusted.h"

enum { PATH = 0, ENTRIES }; /* arguments */

enum {
	LINE_SIZE = 640,
	USES_LOGGED = 10, /* a second */
	SECOND_US = 1000000,
	SETTLED_S = 2, /* since its last change: until then another could hide behind the same times */
};

enum state { STATE_NEVER = 0, STATE_READ, STATE_MISSING, STATE_WRONG /* in itself */, STATE_BARRED /* from us */ };

struct file {
	struct apikeyd_self *self;
	const struct apikeyd_host *host;
	const char *path;
	uint32_t keys_max;
	enum state state;
	struct glass *glass; /* STATE_READ */
	struct stat seen;    /* STATE_READ, STATE_WRONG: what was read */
	bool settled;
	char said[LINE_SIZE]; /* about the file, last */
	uint32_t far_line;    /* of which was said that it ends too far away; 0: none */
	int64_t second_us;    /* in which uses were logged last */
	uint32_t logged, silent;
};

/* ---- the log ---- */

/* What is the case with the file, once. */
static void say(struct file *file, enum apikeyd_level level, const char *line)
{
	if (strcmp(file->said, line) == 0)
		return;
	snprintf(file->said, sizeof(file->said), "%s", line);
	file->host->log(file->self, level, line);
}

static void say_silent(struct file *file)
{
	char line[LINE_SIZE];

	if (file->silent == 0)
		return;
	snprintf(line, sizeof(line), "break-glass keys were used %" PRIu32 " times more than is logged one by one",
		 file->silent);
	file->host->log(file->self, APIKEYD_LOG_WARNING, line);
	file->silent = 0;
}

static const char *addr_text(const struct apikeyd_addr *addr, char *out, socklen_t size)
{
	if (addr->family != 4 && addr->family != 6)
		return "none given";
	return inet_ntop(addr->family == 4 ? AF_INET : AF_INET6, addr->bytes, out, size) ? out : "?";
}

/* Every use is told of. Only so many a second by themselves, that nobody fills the disk with them. */
static void say_used(struct file *file, const struct apikeyd_request *request, const struct glass_key *key)
{
	char line[LINE_SIZE], addr[INET6_ADDRSTRLEN], end[GLASS_TIME_SIZE];
	struct apikeyd_request about = *request;

	if (request->boot_us - file->second_us >= SECOND_US || request->boot_us < file->second_us) {
		say_silent(file);
		file->second_us = request->boot_us;
		file->logged = 0;
	}
	if (file->logged == USES_LOGGED) {
		file->silent++;
		return;
	}
	file->logged++;
	glass_time_format(key->end_us, end);
	snprintf(line, sizeof(line),
		 "break-glass key %s used%s: organization %.*s, method %.*s, uid %u, addr %s, %s %s", key->key_id,
		 request->now_us >= key->end_us ? " after its end" : "", (int)key->organization.len,
		 key->organization.data, (int)request->method.len, request->method.data ? request->method.data : "",
		 (unsigned)request->uid, addr_text(&request->addr, addr, sizeof(addr)),
		 request->now_us >= key->end_us ? "ended" : "ends", end);
	/* The core learns whose it is from us, later. */
	about.key_org = key->organization;
	file->host->log_request(file->self, APIKEYD_LOG_WARNING, &about, line);
}

/* ---- the file ---- */

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
	       a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* Times of files are coarse: a change right after the one that is known may leave them as they are. */
static bool is_settled(const struct stat *st)
{
	struct timespec now;

	if (clock_gettime(CLOCK_REALTIME, &now) != 0)
		return false;
	return st->st_ctim.tv_sec + SETTLED_S < now.tv_sec || now.tv_sec + SETTLED_S < st->st_ctim.tv_sec;
}

/* The whole text, from malloc; NULL with -errno in *ret_len and a line in `error`. */
static char *read_text(const char *path, int fd, const struct stat *st, ssize_t *ret_len, char *error, size_t size)
{
	size_t room, len = 0;
	ssize_t got = 1;
	struct stat after;
	char *text;

	if (st->st_size > GLASS_FILE_MAX) {
		snprintf(error, size, "%s: has %jd bytes: it must have at most %d", path, (intmax_t)st->st_size,
			 GLASS_FILE_MAX);
		*ret_len = -EFBIG;
		return NULL;
	}
	room = (size_t)st->st_size + 1;
	text = malloc(room);
	if (!text) {
		snprintf(error, size, "%s: no memory", path);
		*ret_len = -ENOMEM;
		return NULL;
	}
	while (len < room && (got = read(fd, text + len, room - len)) > 0)
		len += (size_t)got;
	if (got < 0) {
		*ret_len = -errno;
		snprintf(error, size, "%s: %s", path, strerror(errno));
	} else if (fstat(fd, &after) != 0 || !same_file(st, &after) || len != (size_t)st->st_size) {
		*ret_len = -EAGAIN;
		snprintf(error, size, "%s: changed while it was read; put a new file in its place by mv", path);
	} else {
		*ret_len = (ssize_t)len;
		return text;
	}
	explicit_bzero(text, room);
	free(text);
	return NULL;
}

/* What may be read by whom is part of the file's contract: the hashes are no secret, but nobody's business either. */
static enum state read_file(struct file *file, char *error, size_t size)
{
	enum state state = STATE_BARRED;
	struct stat st;
	char *text;
	ssize_t len;
	int fd, rc = trusted_open(file->path, TRUSTED_FILE, &fd, error, size);

	if (rc != 0)
		return rc == -ENOENT ? STATE_MISSING : STATE_BARRED;
	if (fstat(fd, &st) != 0) {
		snprintf(error, size, "%s: %s", file->path, strerror(errno));
		goto out;
	}
	if (st.st_mode & S_IROTH) {
		snprintf(error, size, "%s: others can read it (mode %04o); run chmod o-r %s", file->path,
			 (unsigned)(st.st_mode & 07777), file->path);
		goto out;
	}
	text = read_text(file->path, fd, &st, &len, error, size);
	if (!text)
		goto out;
	rc = glass_parse(file->path, text, (size_t)len, file->keys_max, &file->glass, error, size);
	state = rc == 0 ? STATE_READ : rc == -ENOMEM ? STATE_BARRED : STATE_WRONG;
	file->seen = st;
	file->settled = is_settled(&st);
	explicit_bzero(text, (size_t)len);
	free(text);
out:
	close(fd);
	return state;
}

static void read_again(struct file *file)
{
	char error[LINE_SIZE], line[LINE_SIZE];
	uint32_t count = 0;

	glass_free(file->glass);
	file->glass = NULL;
	file->state = read_file(file, error, sizeof(error));
	switch (file->state) {
	case STATE_READ:
		while (glass_at(file->glass, count))
			count++;
		snprintf(line, sizeof(line), "%s: break-glass keys: %" PRIu32, file->path, count);
		say(file, APIKEYD_LOG_INFO, line);
		break;
	case STATE_MISSING:
		snprintf(line, sizeof(line), "%s: is not there, so there are no break-glass keys", file->path);
		say(file, APIKEYD_LOG_INFO, line);
		break;
	case STATE_NEVER:
	case STATE_WRONG:
	case STATE_BARRED:
		say(file, APIKEYD_LOG_ERROR, error);
		break;
	}
}

/* Reads the file where it is another one than was read, and where it could not be read. */
static void look(struct file *file)
{
	bool read = file->state == STATE_READ || file->state == STATE_WRONG;
	struct stat st;

	if (read && stat(file->path, &st) == 0 && same_file(&st, &file->seen)) {
		if (file->settled)
			return;
	} else if (read) {
		file->said[0] = '\0'; /* of another file, the same is news */
		file->far_line = 0;
	}
	read_again(file);
	if (file->state != STATE_READ)
		file->far_line = 0;
}

/* ---- judging ---- */

/* Takes as long wherever they differ. */
static bool same_hash(const uint8_t *a, const uint8_t *b)
{
	volatile uint8_t differs = 0;

	for (unsigned i = 0; i < APIKEYD_HASH_LEN; i++)
		differs |= a[i] ^ b[i];
	return differs == 0;
}

static enum apikeyd_code granted(struct file *file, const struct apikeyd_request *request, const struct glass_key *key)
{
	struct apikeyd_principal principal = {
		.size = sizeof(principal),
		.kind = APIKEYD_KIND_BREAK_GLASS,
		.organization = key->organization,
		.narrowed_pages = true,
		.narrowed_scopes = true,
		.pages = key->pages,
		.scopes = key->scopes,
		.page_count = key->page_count,
		.scope_count = key->scope_count,
		.expires_at_us = key->end_us,
	};
	char line[LINE_SIZE], end[GLASS_TIME_SIZE];
	int rc = file->host->grant(file->self, request, &principal);

	if (rc == -ENOMEM)
		return APIKEYD_OVERLOAD;
	if (rc != 0) {
		snprintf(line, sizeof(line), "%s:%" PRIu32 ": the daemon does not take this key", file->path,
			 key->line);
		say(file, APIKEYD_LOG_ERROR, line);
		return APIKEYD_MODULE_FAULT;
	}
	if (request->explain) {
		glass_time_format(key->end_us, end);
		snprintf(line, sizeof(line), "%s:%" PRIu32 ", ends %s", file->path, key->line, end);
		file->host->detail(file->self, request, line);
	} else {
		say_used(file, request, key);
	}
	return APIKEYD_SUCCESS;
}

/* One hash and one compare, whether or not the id is there. */
static enum apikeyd_code prove(struct file *file, const struct apikeyd_request *request)
{
	static const uint8_t nobody[APIKEYD_HASH_LEN];
	const struct glass_key *key = glass_find(file->glass, request->key_id), *first = glass_at(file->glass, 0);
	uint8_t hash[APIKEYD_HASH_LEN];
	bool same;
	int rc;

	if (!first)
		return APIKEYD_UNKNOWN_KEY;
	rc = file->host->hash(file->self, request, key ? key->pepper : first->pepper, hash);
	if (rc != 0)
		return !key ? APIKEYD_UNKNOWN_KEY : rc == -ENOENT ? APIKEYD_NO_PEPPER : APIKEYD_MODULE_FAULT;
	same = same_hash(hash, key ? key->hash : nobody);
	explicit_bzero(hash, sizeof(hash));
	return key && same ? granted(file, request, key) : APIKEYD_UNKNOWN_KEY;
}

static enum apikeyd_code file_start(void *instance, const struct apikeyd_request *request, uint64_t token)
{
	struct file *file = instance;
	const struct glass_key *far;
	char line[LINE_SIZE], end[GLASS_TIME_SIZE];

	(void)token;
	if (request->key_letter != 'b' || !request->key_id.data)
		return APIKEYD_UNKNOWN_KEY;
	look(file);
	if (file->state == STATE_MISSING)
		return APIKEYD_UNKNOWN_KEY;
	if (file->state != STATE_READ) {
		if (request->explain)
			file->host->detail(file->self, request, file->said);
		return APIKEYD_MODULE_FAULT;
	}
	far = glass_too_far(file->glass, request->now_us);
	if (far) {
		glass_time_format(far->end_us, end);
		snprintf(line, sizeof(line), "%s:%" PRIu32 ": end '%s': it must be at most %d hours away", file->path,
			 far->line, end, GLASS_HOURS_MAX);
		if (file->far_line != far->line)
			file->host->log(file->self, APIKEYD_LOG_ERROR, line);
		file->far_line = far->line;
		if (request->explain)
			file->host->detail(file->self, request, line);
		return APIKEYD_MODULE_FAULT;
	}
	file->far_line = 0;
	return prove(file, request);
}

/* ---- an instance ---- */

static int file_open(struct apikeyd_self *self, const struct apikeyd_host *host, const struct apikeyd_value *values,
		     void **ret_instance, char *error, size_t error_size)
{
	struct file *file = calloc(1, sizeof(*file));

	if (!file) {
		snprintf(error, error_size, "no memory");
		return -ENOMEM;
	}
	file->self = self;
	file->host = host;
	file->path = values[PATH].text;
	file->keys_max = (uint32_t)values[ENTRIES].number;
	/* Now, so that what is wrong with it stands in the log before it is needed. It does not keep a daemon down. */
	read_again(file);
	*ret_instance = file;
	return 0;
}

static void file_close(void *instance)
{
	struct file *file = instance;

	say_silent(file);
	glass_free(file->glass);
	free(file);
}

static const struct apikeyd_argument arguments[] = {
	[PATH] = {.name = "path",
		  .type = APIKEYD_TYPE_PATH,
		  .required = true,
		  .help = "the file of break-glass keys; it need not be there"},
	[ENTRIES] = {.name = "entries",
		     .type = APIKEYD_TYPE_COUNT,
		     .fallback = "64",
		     .min = 1,
		     .max = GLASS_KEYS_MAX,
		     .help = "how many keys may stand in it"},
	{0},
};

const struct apikeyd_module module_file = {
	.abi = APIKEYD_ABI,
	.size = sizeof(struct apikeyd_module),
	.name = "file",
	.help = "break-glass keys out of a file on this host, for when the store cannot be reached",
	.groups = APIKEYD_GROUP_KEY,
	.flags = APIKEYD_IDENTIFIES | APIKEYD_ASK_AGAIN,
	.arguments = arguments,
	.open = file_open,
	.start = file_start,
	.close = file_close,
};
