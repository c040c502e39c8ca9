#include "daemon/config_table.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/user.h"

enum { FILE_MAX = 1 << 20 };

/* ---- made and freed ---- */

struct config *config_new(void)
{
	struct config *config = calloc(1, sizeof(*config));
	char right[128];

	if (!config)
		return NULL;
	config->check_count = 1;
	for (unsigned i = 0; i < config_setting_count; i++) {
		if (config_set(config, &config_settings[i], 0, config_settings[i].fallback, right, sizeof(right)) !=
		    0) {
			config_free(config);
			return NULL;
		}
	}
	return config;
}

bool config_add_socket(struct config *config, const char *name)
{
	unsigned at = config->check_count;
	char right[128];

	config->check[at].name = strdup(name);
	if (!config->check[at].name)
		return false;
	config->check_count++;
	for (unsigned i = 0; i < config_setting_count; i++) {
		const struct config_setting *s = &config_settings[i];

		if (config_of_socket(s) && config_set(config, s, at, s->fallback, right, sizeof(right)) != 0)
			return false;
	}
	config->check[at].path[0] = '\0';
	return true;
}

static void free_text(char *text)
{
	if (text)
		explicit_bzero(text, strlen(text)); /* a connection string may hold a password, against all advice */
	free(text);
}

void config_free(struct config *config)
{
	if (!config)
		return;
	for (unsigned i = 0; i < config_setting_count; i++) {
		const struct config_setting *s = &config_settings[i];
		unsigned count = config_of_socket(s) ? config->check_count : 1;

		for (unsigned socket = 0; config_is_text(s) && socket < count; socket++)
			free_text(*(char **)config_field(config, s, socket));
	}
	for (unsigned socket = 0; socket < config->check_count; socket++)
		free(config->check[socket].name);
	config_grace_free(config->grace);
	config_places_free(config->places);
	free(config);
}

/* ---- the lease ---- */

enum { BEATS_OF_MARGIN = 3 };

uint32_t config_margin_ms(const struct config *config)
{
	return BEATS_OF_MARGIN * config->heartbeat_ms;
}

uint64_t config_lease_ms(const struct config *config)
{
	/* after the poll was sent */
	uint64_t serves = (uint64_t)config->max_stale_ms + config_longest_grace_ms(config);

	/* A thousandth and a beat more, for two clocks that do not tick alike. */
	return serves + serves / 1000 + config_margin_ms(config) + config->heartbeat_ms;
}

uint32_t config_longest_grace_ms(const struct config *config)
{
	return config_grace_longest_ms(config->grace);
}

/* ---- read from a file ---- */

static char *read_file(const char *path, size_t *ret_len, const char **ret_fault)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	char *text = NULL;
	struct stat st;
	size_t len = 0;
	ssize_t n = 0;

	*ret_fault = NULL;
	if (fd < 0 || fstat(fd, &st) != 0) {
		*ret_fault = strerror(errno);
		goto out;
	}
	if (S_ISDIR(st.st_mode)) {
		*ret_fault = "is a directory";
		goto out;
	}
	text = malloc(FILE_MAX + 1);
	if (!text) {
		*ret_fault = strerror(ENOMEM);
		goto out;
	}
	while (len <= FILE_MAX && (n = read(fd, text + len, FILE_MAX + 1 - len)) > 0)
		len += (size_t)n;
	if (n < 0)
		*ret_fault = strerror(errno);
	else if (len > FILE_MAX)
		*ret_fault = "longer than 1 MiB, which no configuration is";
out:
	if (fd >= 0)
		close(fd);
	if (*ret_fault) {
		free(text);
		return NULL;
	}
	*ret_len = len;
	return text;
}

static void unreadable(const char *path, const char *why, char *errors, size_t error_size)
{
	char line[1024], clean[2048], own[USER_NAME_SIZE], owner[USER_NAME_SIZE], group[USER_NAME_SIZE];
	bool denied = strcmp(why, strerror(EACCES)) == 0;
	struct stat st;
	size_t len;

	if (denied && stat(path, &st) == 0)
		snprintf(
			line, sizeof(line),
			"%s: cannot be read: %s; it belongs to %s and group %s, mode %04o, and apikeyd runs as %s: let a "
			"group of that user read it, or run apikeyd as another",
			path, why, user_describe(st.st_uid, owner), user_describe_group(st.st_gid, group),
			(unsigned)st.st_mode & 07777, user_describe(geteuid(), own));
	else if (denied)
		snprintf(line, sizeof(line),
			 "%s: cannot be read: %s; apikeyd runs as %s, whom a directory above it does not let through",
			 path, why, user_describe(geteuid(), own));
	else
		snprintf(line, sizeof(line), "%s: cannot be read: %s; name the right file with --config", path, why);
	len = log_escape(line, strlen(line), clean, sizeof(clean));
	if (error_size > 0)
		snprintf(errors, error_size, "%.*s\n", (int)len, clean);
}

struct config *config_load(const char *path, char *errors, size_t error_size)
{
	struct config *config;
	const char *why;
	char *text;
	size_t len;

	if (!path)
		return config_parse("", 0, "defaults", errors, error_size);
	text = read_file(path, &len, &why);
	if (!text) {
		unreadable(path, why, errors, error_size);
		return NULL;
	}
	config = config_parse(text, len, path, errors, error_size);
	explicit_bzero(text, len);
	free(text);
	return config;
}
