/* One value: from text, to text. */
#include "daemon/config_table.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "daemon/credential.h"
#include "proto/keytext.h"

enum { STACK_MAX = 64 }; /* of a stack's name */

static const char *const level_words[] = {"error", "warning", "info", "debug"};
static const char *const confine_words[] = {"off", "log", "enforce", "require"};
static const char *const loss_words[] = {[CONFIG_KEEP] = "keep", [CONFIG_REFUSE] = "refuse"};

struct unit {
	const char *word;
	uint32_t factor;
};

static const struct unit ms_units[] = {{"ms", 1}, {"s", 1000}, {"min", 60000}, {"h", 3600000}, {NULL, 0}};
static const struct unit byte_units[] = {{"k", 1024}, {"K", 1024}, {"M", 1048576}, {"G", 1073741824}, {NULL, 0}};
static const struct unit no_units[] = {{NULL, 0}};

/* Digits, then a unit or nothing. */
static bool read_number(const char *text, const struct unit *units, uint64_t *ret)
{
	uint64_t n = 0;
	const char *p = text;

	if (*p < '0' || *p > '9')
		return false;
	for (; *p >= '0' && *p <= '9'; p++) {
		if (n > UINT32_MAX)
			return false;
		n = n * 10 + (uint64_t)(*p - '0');
	}
	while (*p == ' ')
		p++;
	if (!*p) {
		*ret = n;
		return true;
	}
	for (; units->word; units++) {
		if (strcmp(p, units->word) == 0) {
			*ret = n * units->factor;
			return true;
		}
	}
	return false;
}

bool config_read_ms(const char *text, uint64_t *ret)
{
	return read_number(text, ms_units, ret);
}

static int set_number(uint32_t *field, const struct config_setting *setting, const char *text, char *right,
		      size_t right_size)
{
	const struct unit *units = no_units;
	const char *noun = "a number", *also = "";
	uint64_t n;

	if (setting->type == CONFIG_MS) {
		units = ms_units;
		noun = "milliseconds";
		also = ", or with a unit: ms, s, min, h";
	} else if (setting->type == CONFIG_BYTES) {
		units = byte_units;
		noun = "bytes";
		also = ", or with a unit: k, M, G";
	}
	if (!read_number(text, units, &n) || n < setting->min || n > setting->max) {
		snprintf(right, right_size, "must be %s from %" PRIu32 " to %" PRIu32 "%s", noun, setting->min,
			 setting->max, also);
		return -EINVAL;
	}
	*field = (uint32_t)n;
	return 0;
}

static int set_mode(uint32_t *field, const char *text, char *right, size_t right_size)
{
	uint32_t mode = 0;
	size_t len = strlen(text);

	if (len == 0 || len > 4 || strspn(text, "01234567") != len)
		goto wrong;
	for (const char *p = text; *p; p++)
		mode = mode * 8 + (uint32_t)(*p - '0');
	if (mode > 0777)
		goto wrong;
	*field = mode;
	return 0;
wrong:
	snprintf(right, right_size, "must be permissions in octal, 0000 to 0777");
	return -EINVAL;
}

static int set_bool(bool *field, const char *text, char *right, size_t right_size)
{
	if (strcmp(text, "yes") == 0 || strcmp(text, "true") == 0 || strcmp(text, "on") == 0 ||
	    strcmp(text, "1") == 0) {
		*field = true;
	} else if (strcmp(text, "no") == 0 || strcmp(text, "false") == 0 || strcmp(text, "off") == 0 ||
		   strcmp(text, "0") == 0) {
		*field = false;
	} else {
		snprintf(right, right_size, "must be yes or no");
		return -EINVAL;
	}
	return 0;
}

static int set_level(enum log_level *field, const char *text, char *right, size_t right_size)
{
	for (unsigned i = 0; i < sizeof(level_words) / sizeof(level_words[0]); i++) {
		if (strcmp(text, level_words[i]) == 0) {
			*field = (enum log_level)i;
			return 0;
		}
	}
	snprintf(right, right_size, "must be error, warning, info or debug");
	return -EINVAL;
}

static int set_confine(enum config_confine *field, const struct config_setting *setting, const char *text, char *right,
		       size_t right_size)
{
	for (unsigned i = 0; i < sizeof(confine_words) / sizeof(confine_words[0]); i++) {
		if (strcmp(text, confine_words[i]) == 0 && (i == CONFIG_CONFINE_OFF || i >= setting->min)) {
			*field = (enum config_confine)i;
			return 0;
		}
	}
	snprintf(right, right_size, "must be off, %senforce or require",
		 setting->min <= CONFIG_CONFINE_LOG ? "log, " : "");
	return -EINVAL;
}

static int set_loss(enum config_on_loss *field, const char *text, char *right, size_t right_size)
{
	for (unsigned i = 0; i < sizeof(loss_words) / sizeof(loss_words[0]); i++) {
		if (strcmp(text, loss_words[i]) == 0) {
			*field = (enum config_on_loss)i;
			return 0;
		}
	}
	snprintf(right, right_size, "must be keep or refuse");
	return -EINVAL;
}

bool config_is_text(const struct config_setting *setting)
{
	switch (setting->type) {
	case CONFIG_MODE:
	case CONFIG_BOOL:
	case CONFIG_COUNT:
	case CONFIG_MS:
	case CONFIG_BYTES:
	case CONFIG_LEVEL:
	case CONFIG_CONFINE:
	case CONFIG_LOSS:
		return false;
	default:
		return true;
	}
}

/* As stacks are named: their files stand below one directory. */
static bool stack_valid(const char *text)
{
	size_t len = strlen(text);

	return len <= STACK_MAX && !strchr("-_.", *text) &&
	       strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == len;
}

/* The next of a comma-separated list, without the blanks around it, in `out`; false at the end. Moves *at on. */
bool config_next(const char **at, char *out, size_t size)
{
	const char *from = *at + strspn(*at, ", \t");
	size_t len = strcspn(from, ",");

	*at = from + len;
	while (len > 0 && strchr(" \t", from[len - 1]))
		len--;
	if (len >= size)
		len = size - 1;
	memcpy(out, from, len);
	out[len] = '\0';
	return len > 0;
}

static bool paths_valid(const char *text)
{
	char path[PATH_MAX];

	while (config_next(&text, path, sizeof(path))) {
		if (path[0] != '/')
			return false;
	}
	return true;
}

static bool ports_valid(const char *text)
{
	char port[16];
	uint64_t n;

	if (strcmp(text, "any") == 0)
		return true;
	while (config_next(&text, port, sizeof(port))) {
		if (!read_number(port, no_units, &n) || n < 1 || n > UINT16_MAX)
			return false;
	}
	return true;
}

/* NULL: the text is right. */
static const char *text_fault(enum config_type type, const char *text, char *right, size_t right_size)
{
	struct sockaddr_un address;

	switch (type) {
	case CONFIG_NAME:
		return strpbrk(text, " \t,:/") ? "must be one user or group, a name or a number" : NULL;
	case CONFIG_NAMES:
		return strpbrk(text, ":/;") ? "must be users, names or numbers, with commas between" : NULL;
	case CONFIG_SOCKET:
		if (strlen(text) >= sizeof(address.sun_path)) {
			snprintf(right, right_size, "must be at most %zu bytes, as the kernel has it for sockets",
				 sizeof(address.sun_path) - 1);
			return right;
		}
		return text[0] == '/' && text[strlen(text) - 1] != '/' ? NULL : "must be an absolute path of a socket";
	case CONFIG_PATH:
		return text[0] == '/' ? NULL : "must be an absolute path";
	case CONFIG_PLACE:
		return !*text || text[0] == '/' ? NULL : "must be an absolute path, or empty";
	case CONFIG_FILE:
		if (credential_is(text))
			return credential_valid(text) ? NULL
						      : "must have a credential's name behind credential: (letters, "
							"digits, - _ .)";
		return text[0] == '/' ? NULL : "must be an absolute path, or credential:NAME";
	case CONFIG_PATHS:
		return paths_valid(text) ? NULL : "must be absolute paths, with commas between";
	case CONFIG_PORTS:
		return ports_valid(text) ? NULL : "must be ports from 1 to 65535, with commas between, or any";
	case CONFIG_STACK:
		if (!*text || stack_valid(text))
			return NULL;
		snprintf(right, right_size,
			 "must be a stack's name: 1 to %d letters, digits, - _ or ., the first a letter or a digit",
			 STACK_MAX);
		return right;
	case CONFIG_BRAND:
		return keytext_brand_valid(text) ? NULL : "must be 1 to 16 of a-z 0-9, the first a letter";
	default:
		return NULL;
	}
}

static int set_text(char **field, enum config_type type, const char *text, char *right, size_t right_size)
{
	const char *fault = text_fault(type, text, right, right_size);
	char *copy;

	if (fault) {
		if (fault != right)
			snprintf(right, right_size, "%s", fault);
		return -EINVAL;
	}
	copy = strdup(text);
	if (!copy)
		return -ENOMEM;
	free(*field);
	*field = copy;
	return 0;
}

int config_set(struct config *config, const struct config_setting *setting, unsigned socket, const char *text,
	       char *right, size_t right_size)
{
	void *field = config_field(config, setting, socket);

	switch (setting->type) {
	case CONFIG_MODE:
		return set_mode(field, text, right, right_size);
	case CONFIG_BOOL:
		return set_bool(field, text, right, right_size);
	case CONFIG_LEVEL:
		return set_level(field, text, right, right_size);
	case CONFIG_CONFINE:
		return set_confine(field, setting, text, right, right_size);
	case CONFIG_LOSS:
		return set_loss(field, text, right, right_size);
	case CONFIG_COUNT:
	case CONFIG_MS:
	case CONFIG_BYTES:
		return set_number(field, setting, text, right, right_size);
	default:
		return set_text(field, setting->type, text, right, right_size);
	}
}

const char *config_get(const struct config *config, const struct config_setting *setting, unsigned socket, char *out,
		       size_t size)
{
	const char *base = (const char *)config + setting->offset + socket * sizeof(struct config_socket);

	switch (setting->type) {
	case CONFIG_MODE:
		snprintf(out, size, "%04" PRIo32, *(const uint32_t *)(const void *)base);
		break;
	case CONFIG_BOOL:
		snprintf(out, size, "%s", *(const bool *)base ? "yes" : "no");
		break;
	case CONFIG_LEVEL:
		snprintf(out, size, "%s", level_words[*(const enum log_level *)(const void *)base]);
		break;
	case CONFIG_CONFINE:
		snprintf(out, size, "%s", confine_words[*(const enum config_confine *)(const void *)base]);
		break;
	case CONFIG_LOSS:
		snprintf(out, size, "%s", loss_words[*(const enum config_on_loss *)(const void *)base]);
		break;
	case CONFIG_COUNT:
	case CONFIG_MS:
	case CONFIG_BYTES:
		snprintf(out, size, "%" PRIu32, *(const uint32_t *)(const void *)base);
		break;
	default:
		return *(char *const *)(const void *)base;
	}
	return out;
}
