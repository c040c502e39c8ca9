/*
 * company_ids: a module of apikeyd that identifies. It knows the keys of a company's own services from a file, such as
 * a vault writes, beside those in the store. What such a key may do is still the daemon's to say: it looks the
 * organization up in its copy and judges the platform's rule for it.
 *
 *     make CPPFLAGS=-I/usr/include
 *     install -m 0644 company_ids.so /usr/lib/apikeyd/modules/
 *
 * In a stack file (apikeyd-stacks(5)); where this line does not know a key, the next one is asked:
 *
 *     key  sufficient  company_ids  path=/etc/apikeyd/company.ids
 *     key  required    store
 *
 * The file is root's or the daemon's, writable by nobody else, and has a line for each key ('#' starts a comment):
 *
 *     <key_id> <pepper's version>:<64 hex digits> <organization> read|write
 *
 * A key_id is public: whoever has seen one can write a text around it that has the form of a key. It is the hash that
 * proves. It is BLAKE2b-256 of the key's whole text with the pepper as its key; in Python:
 *
 *     hashlib.blake2b(key, key=pepper, digest_size=32).hexdigest()
 *
 * A line taken out must not be good until the next restart: the file is looked at anew, once a second at most, and
 * while it cannot be read, no key of it is good and the answer is a fault.
 */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <apikeyd-module.h>

enum { PATH, ARGUMENTS }; /* the order of the table below, and so of the values */

static const struct apikeyd_argument arguments[] = {
	[PATH] = {.name = "path",
		  .type = APIKEYD_TYPE_PATH,
		  .required = true,
		  .help = "the file of keys: id, pepper's version and hash, organization, read or write"},
	[ARGUMENTS] = {0},
};

enum { KEYS_MAX = 1000, LINE_MAX_BYTES = 256, LOOK_EVERY_US = 1000000 };

struct company_key {
	char key_id[11], organization[64];
	unsigned pepper;
	uint8_t hash[APIKEYD_HASH_LEN];
	bool writes;
};

struct instance {
	struct apikeyd_self *self;
	const struct apikeyd_host *host;
	const char *path; /* good as long as the instance */
	struct company_key *keys;
	size_t count;
	bool good;	   /* the keys are those of the file as it was when looked at */
	struct stat file;  /* then */
	int64_t looked_us; /* when, by CLOCK_BOOTTIME */
};

/* ---- the file ---- */

__attribute__((format(printf, 4, 5))) static int wrong(char *error, size_t error_size, int rc, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	vsnprintf(error, error_size, format, list);
	va_end(list);
	return rc;
}

static int parse_line(const char *line, struct company_key *ret)
{
	char hex[2 * APIKEYD_HASH_LEN + 1], access[6];
	int end = -1;

	if (sscanf(line, "%10[0-9A-Za-z] %5u:%64[0-9a-f] %63[0-9a-z-] %5[a-z] %n", ret->key_id, &ret->pepper, hex,
		   ret->organization, access, &end) != 5 ||
	    end < 0 || line[end] != '\0' || strlen(ret->key_id) != 10 || strlen(hex) != 2 * APIKEYD_HASH_LEN ||
	    ret->pepper < 1 || ret->pepper > 32767 || (strcmp(access, "read") != 0 && strcmp(access, "write") != 0))
		return -EINVAL;
	for (unsigned i = 0; i < APIKEYD_HASH_LEN; i++) {
		unsigned byte;

		sscanf(hex + 2 * (size_t)i, "%2x", &byte);
		ret->hash[i] = (uint8_t)byte;
	}
	ret->writes = strcmp(access, "write") == 0;
	return 0;
}

static int by_id(const void *a, const void *b)
{
	return strcmp(((const struct company_key *)a)->key_id, ((const struct company_key *)b)->key_id);
}

/* A line is never shown in an error: it may be a key that was put there by mistake. */
static int parse_file(const char *path, FILE *stream, struct company_key *keys, size_t *ret_count, char *error,
		      size_t error_size)
{
	char line[LINE_MAX_BYTES];
	unsigned number = 0;
	size_t count = 0;

	while (fgets(line, sizeof(line), stream)) {
		number++;
		if (!strchr(line, '\n') && !feof(stream))
			return wrong(error, error_size, -EINVAL, "%s:%u: is longer than %d bytes", path, number,
				     LINE_MAX_BYTES - 2);
		line[strcspn(line, "#\n")] = '\0';
		if (line[strspn(line, " \t")] == '\0')
			continue;
		if (count == KEYS_MAX)
			return wrong(error, error_size, -EINVAL, "%s:%u: is one key more than %d", path, number,
				     KEYS_MAX);
		if (parse_line(line, &keys[count++]) != 0)
			return wrong(error, error_size, -EINVAL,
				     "%s:%u: must be <key_id> <pepper>:<64 hex digits> <organization> read|write", path,
				     number);
	}
	if (ferror(stream))
		return wrong(error, error_size, -EIO, "%s: cannot be read", path);
	qsort(keys, count, sizeof(*keys), by_id);
	for (size_t i = 1; i < count; i++)
		if (by_id(&keys[i - 1], &keys[i]) == 0)
			return wrong(error, error_size, -EINVAL, "%s: the key_id %s stands there twice", path,
				     keys[i].key_id);
	*ret_count = count;
	return 0;
}

/* Opens it; what may not decide who gets in is refused. */
static FILE *open_file(const char *path, struct stat *ret, char *error, size_t error_size)
{
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	FILE *stream = fd < 0 ? NULL : fdopen(fd, "r");

	if (!stream)
		wrong(error, error_size, 0, "%s: %s", path, strerror(errno));
	else if (fstat(fd, ret) != 0 || !S_ISREG(ret->st_mode))
		wrong(error, error_size, 0, "%s: is no regular file", path);
	else if ((ret->st_uid != 0 && ret->st_uid != geteuid()) || (ret->st_mode & (S_IWGRP | S_IWOTH)))
		wrong(error, error_size, 0,
		      "%s: others can write it (uid %u, mode %04o); it must be root's or the daemon's: chmod go-w",
		      path, (unsigned)ret->st_uid, (unsigned)(ret->st_mode & 07777));
	else
		return stream;
	if (stream)
		fclose(stream);
	else if (fd >= 0)
		close(fd);
	return NULL;
}

/* Reads it anew. On failure there are no keys, until it is right again. */
static int read_keys(struct instance *instance, char *error, size_t error_size)
{
	FILE *stream = open_file(instance->path, &instance->file, error, error_size);
	int rc = -EINVAL;

	instance->count = 0;
	if (stream) {
		rc = parse_file(instance->path, stream, instance->keys, &instance->count, error, error_size);
		fclose(stream);
	}
	instance->good = rc == 0;
	return rc;
}

static bool has_changed(const struct instance *instance)
{
	const struct stat *old = &instance->file;
	struct stat now;

	return !instance->good || lstat(instance->path, &now) != 0 || now.st_dev != old->st_dev ||
	       now.st_ino != old->st_ino || now.st_size != old->st_size || now.st_mode != old->st_mode ||
	       now.st_uid != old->st_uid || now.st_mtim.tv_sec != old->st_mtim.tv_sec ||
	       now.st_mtim.tv_nsec != old->st_mtim.tv_nsec;
}

static void look_again(struct instance *instance, int64_t boot_us)
{
	bool was_good = instance->good;
	char error[512];

	if (boot_us - instance->looked_us < LOOK_EVERY_US)
		return;
	instance->looked_us = boot_us;
	if (has_changed(instance) && read_keys(instance, error, sizeof(error)) != 0 && was_good)
		instance->host->log(instance->self, APIKEYD_LOG_ERROR, error); /* once, not with each request */
	else if (instance->good && !was_good)
		instance->host->log(instance->self, APIKEYD_LOG_INFO, "the file can be read again");
}

/* ---- the module ---- */

static int open_line(struct apikeyd_self *self, const struct apikeyd_host *host, const struct apikeyd_value *values,
		     void **ret_instance, char *error, size_t error_size)
{
	struct instance *instance = calloc(1, sizeof(*instance));
	struct company_key *keys = calloc(KEYS_MAX, sizeof(*keys));
	char why[512];
	int rc = -ENOMEM;

	if (instance && keys) {
		instance->self = self;
		instance->host = host;
		instance->path = values[PATH].text;
		instance->keys = keys;
		rc = read_keys(instance, why, sizeof(why));
		if (rc != 0) /* which argument: the daemon says where it stands */
			snprintf(error, error_size, "path: %s", why);
	} else {
		snprintf(error, error_size, "no memory");
	}
	if (rc != 0) {
		free(keys);
		free(instance);
		return rc;
	}
	*ret_instance = instance;
	return 0;
}

static void close_line(void *data)
{
	struct instance *instance = data;

	free(instance->keys);
	free(instance);
}

static const struct company_key *find(const struct instance *instance, const struct apikeyd_text *key_id)
{
	struct company_key wanted = {.key_id = ""};

	if (!key_id->data || key_id->len >= sizeof(wanted.key_id))
		return NULL;
	memcpy(wanted.key_id, key_id->data, key_id->len);
	return bsearch(&wanted, instance->keys, instance->count, sizeof(wanted), by_id);
}

/* All bytes are looked at, whatever they are: the time taken tells nothing. */
static bool equal(const uint8_t *a, const uint8_t *b)
{
	volatile uint8_t difference = 0;

	for (unsigned i = 0; i < APIKEYD_HASH_LEN; i++)
		difference |= a[i] ^ b[i];
	return difference == 0;
}

static enum apikeyd_code start(void *data, const struct apikeyd_request *request, uint64_t token)
{
	static const struct company_key nobody = {.pepper = 1};
	struct instance *instance = data;
	struct apikeyd_principal principal = {.size = sizeof(principal), .kind = APIKEYD_KIND_ORGANIZATION};
	const struct company_key *key, *proven_by;
	uint8_t hash[APIKEYD_HASH_LEN] = {0};
	bool hashed, same;

	(void)token; /* this module never waits */
	look_again(instance, request->boot_us);
	if (!instance->good)
		return APIKEYD_MODULE_FAULT;
	/* An id that is not there takes the same work as a wrong secret: nobody can tell which ids there are. */
	key = request->key_letter == 'o' ? find(instance, &request->key_id) : NULL;
	proven_by = key ? key : instance->count > 0 ? &instance->keys[0] : &nobody;
	hashed = instance->host->hash(instance->self, request, (uint16_t)proven_by->pepper, hash) == 0;
	same = equal(hash, proven_by->hash);
	if (key && !hashed)
		return APIKEYD_NO_PEPPER;
	if (!key || !same)
		return APIKEYD_UNKNOWN_KEY;
	principal.organization.data = key->organization;
	principal.organization.len = (uint32_t)strlen(key->organization);
	principal.writes = key->writes;
	if (instance->host->grant(instance->self, request, &principal) != 0)
		return APIKEYD_MODULE_FAULT;
	if (request->explain)
		instance->host->detail(instance->self, request, "one of the company's own keys");
	return APIKEYD_SUCCESS;
}

APIKEYD_EXPORT const struct apikeyd_module apikeyd_module = {
	.abi = APIKEYD_ABI,
	.size = sizeof(struct apikeyd_module),
	.name = "company_ids",
	.help = "identifies the company's own organization keys by a file of their hashes",
	.groups = APIKEYD_GROUP_KEY,
	.flags = APIKEYD_IDENTIFIES,
	.arguments = arguments,
	.open = open_line,
	.start = start,
	.close = close_line,
};
