/* Whole configurations: printed, and compared. */
#include "daemon/config_table.h"

const char *config_socket_section(const struct config_socket *socket, char out[CONFIG_SECTION_SIZE])
{
	snprintf(out, CONFIG_SECTION_SIZE, "socket%s%s", socket->name ? " " : "", socket->name ? socket->name : "");
	return out;
}

/* How often a section stands in the file: [socket] once for each check socket. */
static unsigned section_count(const struct config *config, const char *section)
{
	return strcmp(section, "socket") == 0 ? config->check_count : 1;
}

static const char *section_name(const struct config *config, const char *section, unsigned socket,
				char out[CONFIG_SECTION_SIZE])
{
	return socket > 0 ? config_socket_section(&config->check[socket], out) : section;
}

/* ---- printing ---- */

/* A text that is longer than a line may be goes on in further ones, cut where it has a space. */
static void print_value(const char *value, FILE *out)
{
	enum { WRAP = 100 };
	const char *space;

	while (strlen(value) > WRAP && (space = strchr(value + WRAP / 2, ' '))) {
		fprintf(out, "%.*s\n  ", (int)(space - value), value);
		value = space + 1;
	}
	fprintf(out, "%s\n", value);
}

static void print_section(const struct config *config, const char *section, unsigned socket, FILE *out)
{
	char name[CONFIG_SECTION_SIZE], text[64];

	fprintf(out, "[%s]\n", section_name(config, section, socket, name));
	for (unsigned i = 0; i < config_setting_count; i++) {
		const struct config_setting *s = &config_settings[i];
		const char *value;

		if (strcmp(s->section, section) != 0)
			continue;
		value = config_get(config, s, socket, text, sizeof(text));
		fprintf(out, "# %s\n%s =%s", s->help, s->name, *value ? " " : "");
		print_value(value, out);
	}
}

void config_print(const struct config *config, FILE *out)
{
	const char *section;

	for (unsigned n = 0; (section = config_section_at(n)); n++) {
		for (unsigned socket = 0; socket < section_count(config, section); socket++) {
			if (n > 0 || socket > 0)
				fputc('\n', out);
			print_section(config, section, socket, out);
		}
	}
}

/* ---- comparing ---- */

struct difference {
	char *names;
	size_t size, len;
	unsigned count;
};

static void differs(struct difference *difference, const char *section, const char *what)
{
	if (difference->len < difference->size)
		difference->len +=
			(size_t)snprintf(difference->names + difference->len, difference->size - difference->len,
					 "%s[%s] %s", difference->count ? ", " : "", section, what);
	difference->count++;
}

static void compare_section(struct difference *difference, const char *section, const struct config *before,
			    unsigned socket_before, const struct config *after, unsigned socket_after)
{
	char name[CONFIG_SECTION_SIZE], a[64], b[64];

	for (unsigned i = 0; i < config_setting_count; i++) {
		const struct config_setting *s = &config_settings[i];

		if (s->at_start && strcmp(s->section, section) == 0 &&
		    strcmp(config_get(before, s, socket_before, a, sizeof(a)),
			   config_get(after, s, socket_after, b, sizeof(b))) != 0)
			differs(difference, section_name(before, section, socket_before, name), s->name);
	}
}

/* The check socket of that name, other than [socket]; 0: there is none. */
static unsigned find_socket(const struct config *config, const char *name)
{
	for (unsigned i = 1; i < config->check_count; i++) {
		if (strcmp(config->check[i].name, name) == 0)
			return i;
	}
	return 0;
}

/* Sockets are known by their names, in whatever order they stand. */
static void compare_sockets(struct difference *difference, const struct config *before, const struct config *after)
{
	char name[CONFIG_SECTION_SIZE];

	for (unsigned i = 1; i < before->check_count; i++) {
		unsigned there = find_socket(after, before->check[i].name);

		if (there > 0)
			compare_section(difference, "socket", before, i, after, there);
		else
			differs(difference, config_socket_section(&before->check[i], name), "(gone)");
	}
	for (unsigned i = 1; i < after->check_count; i++) {
		if (find_socket(before, after->check[i].name) == 0)
			differs(difference, config_socket_section(&after->check[i], name), "(new)");
	}
}

unsigned config_needs_restart(const struct config *before, const struct config *after, char *names, size_t size)
{
	struct difference difference = {.names = names, .size = size};
	const char *section;

	if (size > 0)
		names[0] = '\0';
	for (unsigned n = 0; (section = config_section_at(n)); n++) {
		compare_section(&difference, section, before, 0, after, 0);
		if (strcmp(section, "socket") == 0)
			compare_sockets(&difference, before, after);
	}
	return difference.count;
}
