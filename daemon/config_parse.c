/* The configuration file: its lines, its sections, its settings, and whether all of it is right. */
#include "daemon/config_table.h"

#include <errno.h>
#include <ini.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum {
	VALUE_SHOWN = 80, /* of a wrong value, in an error */
	SOCKET_NAME_MAX = 32,
	SOCKETS = 1 + CONFIG_SOCKETS_MAX,
};

struct config_places {
	char *file;
	int lines[SOCKETS][CONFIG_SETTINGS_MAX]; /* by check socket and setting; 0: the default */
};

struct parser {
	struct config *config;
	const char *name; /* the file's */
	const char *text, *end;
	char *errors;
	size_t error_len, error_size;
	unsigned error_count;
	bool no_memory;
	int line;
	bool line_open;			   /* the line holds something that inih should hand us, and has not yet */
	bool continued;			   /* it begins with white space */
	char section[CONFIG_SECTION_SIZE]; /* as the file has it */
	const char *in;	     /* the same, as the table has it: "socket" for [socket NAME]; NULL: unknown */
	unsigned socket;     /* which check socket it is; 0 also for other sections */
	bool has_above;	     /* a setting stands above in this section, which white space would go on with */
	int opened[SOCKETS]; /* by check socket: the line of its section */
	int seen[SOCKETS][CONFIG_SETTINGS_MAX]; /* by setting: the line where it stands; 0: the default */
};

__attribute__((format(printf, 3, 4))) static void fault(struct parser *parser, int line, const char *format, ...)
{
	char text[512], clean[1024];
	size_t n = 0;
	va_list args;
	int len;

	parser->error_count++;
	if (line > 0)
		n = (size_t)snprintf(text, sizeof(text), "%s:%d: ", parser->name, line);
	else
		n = (size_t)snprintf(text, sizeof(text), "%s: ", parser->name);
	if (n >= sizeof(text))
		n = sizeof(text) - 1;
	va_start(args, format);
	len = vsnprintf(text + n, sizeof(text) - n, format, args);
	va_end(args);
	n += len > 0 ? (size_t)len : 0;
	if (n >= sizeof(text))
		n = sizeof(text) - 1;
	n = log_escape(text, n, clean, sizeof(clean));
	if (parser->error_len + n + 2 > parser->error_size)
		return; /* the first ones stand; there is no room for more */
	memcpy(parser->errors + parser->error_len, clean, n);
	parser->error_len += n;
	parser->errors[parser->error_len++] = '\n';
	parser->errors[parser->error_len] = '\0';
}

/* A line that inih did not hand us is one that it could not read. */
static void close_line(struct parser *parser)
{
	if (parser->line_open)
		fault(parser, parser->line, "not a [section], a `setting = value` or a comment");
	parser->line_open = false;
}

static void unknown_section(struct parser *parser)
{
	const char *nearest = config_nearest_section(parser->section), *blank = strchr(parser->section, ' ');
	char first[CONFIG_SECTION_SIZE];

	if (blank) {
		snprintf(first, sizeof(first), "%.*s", (int)(blank - parser->section), parser->section);
		nearest = config_nearest_section(first);
		if (nearest && strcmp(nearest, "socket") == 0)
			nearest = "socket NAME";
	}
	if (nearest)
		fault(parser, parser->line, "[%s]: no such section; [%s]?", parser->section, nearest);
	else
		fault(parser, parser->line, "[%s]: no such section; -T lists them", parser->section);
}

/* [socket NAME]: the one that there is, or a new one. */
static void open_socket(struct parser *parser, const char *name)
{
	struct config *config = parser->config;
	size_t len = strlen(name);

	if (len == 0 || len > SOCKET_NAME_MAX ||
	    strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != len) {
		fault(parser, parser->line, "[%s]: a socket's name must be 1 to %d letters, digits, - or _",
		      parser->section, SOCKET_NAME_MAX);
		return;
	}
	for (unsigned i = 1; i < config->check_count; i++) {
		if (strcmp(config->check[i].name, name) == 0)
			parser->socket = i;
	}
	if (parser->socket == 0 && config->check_count == SOCKETS) {
		fault(parser, parser->line, "[%s]: there must be at most %d sockets besides [socket]", parser->section,
		      CONFIG_SOCKETS_MAX);
		return;
	}
	if (parser->socket == 0) {
		parser->socket = config->check_count;
		parser->opened[parser->socket] = parser->line;
		if (!config_add_socket(config, name)) {
			parser->no_memory = true;
			return;
		}
	}
	parser->in = "socket";
}

static void open_section(struct parser *parser, const char *start, const char *end)
{
	static const char socket[] = "socket ";
	const char *close = memchr(start, ']', (size_t)(end - start)), *known;
	size_t len;

	parser->in = NULL;
	parser->socket = 0;
	parser->has_above = false;
	if (!close) {
		fault(parser, parser->line, "the section's name has no closing ]");
		return;
	}
	len = (size_t)(close - start) - 1;
	if (len >= sizeof(parser->section))
		len = sizeof(parser->section) - 1;
	memcpy(parser->section, start + 1, len);
	parser->section[len] = '\0';
	if (strncmp(parser->section, socket, sizeof(socket) - 1) == 0) {
		open_socket(parser, parser->section + sizeof(socket) - 1);
		return;
	}
	for (unsigned n = 0; (known = config_section_at(n)); n++) {
		if (strcmp(known, parser->section) == 0)
			parser->in = known;
	}
	if (!parser->in)
		unknown_section(parser);
}

/*
 * inih's reader: gives it one line. Looks at each line first, since inih tells of the first bad line only, of no
 * line number in its handler, and nothing at all of an unknown section without settings.
 */
static char *read_line(char *out, int size, void *stream)
{
	struct parser *parser = stream;
	const char *start = parser->text, *stop, *first;
	size_t len;

	close_line(parser);
	if (start >= parser->end)
		return NULL;
	stop = memchr(start, '\n', (size_t)(parser->end - start));
	if (!stop)
		stop = parser->end;
	parser->text = stop < parser->end ? stop + 1 : stop;
	parser->line++;
	out[0] = '\0';
	len = (size_t)(stop - start);
	if (memchr(start, '\0', len)) {
		fault(parser, parser->line, "holds a NUL byte");
		return out;
	}
	if (size < 3 || len > (size_t)size - 2) {
		fault(parser, parser->line,
		      "longer than %d bytes; a long text can go on in lines that begin with white space", size - 2);
		return out;
	}
	memcpy(out, start, len);
	out[len] = '\0';
	for (first = start; first < stop && strchr(" \t\r\v\f", *first); first++)
		;
	parser->continued = first > start;
	if (first == stop || *first == ';' || *first == '#')
		return out;
	if (*first == '[') {
		if (!parser->continued)
			open_section(parser, first, stop);
		else
			fault(parser, parser->line, "a section must stand at the start of its line");
		return out;
	}
	parser->line_open = true;
	return out;
}

static void wrong_value(struct parser *parser, const struct config_setting *setting, const char *value,
			const char *right)
{
	fault(parser, parser->line, "[%s] %s = %.*s: %s", parser->section, setting->name, VALUE_SHOWN, value, right);
}

/* A line that begins with white space goes on with the setting above it, which only long texts want. */
static void go_on(struct parser *parser, const struct config_setting *setting, const char *value)
{
	size_t name_len = strcspn(value, " \t=:");
	char name[64], *joined, **field;

	if (name_len < sizeof(name)) {
		memcpy(name, value, name_len);
		name[name_len] = '\0';
	} else {
		name[0] = '\0';
	}
	if (!setting || !config_goes_on(setting) || config_find(setting->section, name)) {
		fault(parser, parser->line,
		      "begins with white space, which goes on with the setting above; one of its own stands at the start of its line");
		return;
	}
	field = config_field(parser->config, setting, parser->socket);
	if (asprintf(&joined, "%s%s%s", *field, **field ? " " : "", value) < 0) {
		parser->no_memory = true;
		return;
	}
	free(*field);
	*field = joined;
}

static void unknown_setting(struct parser *parser, const char *name)
{
	const struct config_setting *nearest = config_nearest(parser->in, name);

	if (!nearest)
		fault(parser, parser->line, "[%s] %s: no such setting; -T lists them", parser->section, name);
	else if (strcmp(nearest->section, parser->in) == 0)
		fault(parser, parser->line, "[%s] %s: no such setting; %s?", parser->section, name, nearest->name);
	else
		fault(parser, parser->line, "[%s] %s: no such setting; [%s] %s?", parser->section, name,
		      nearest->section, nearest->name);
}

static int handle(void *user, const char *section, const char *name, const char *value)
{
	struct parser *parser = user;
	const struct config_setting *setting;
	bool goes_on = parser->continued && parser->has_above;
	char right[128];
	int *seen, rc;

	(void)section; /* cut off by inih at 50 bytes: read_line's is the whole one */
	parser->line_open = false;
	if (!parser->section[0]) {
		fault(parser, parser->line, "%.*s: stands before the first [section]", VALUE_SHOWN, name);
		return 1;
	}
	if (!parser->in)
		return 1; /* said so already, once for the section */
	setting = config_find(parser->in, name);
	parser->has_above = true;
	if (goes_on) {
		go_on(parser, setting, value);
		return 1;
	}
	if (!setting) {
		unknown_setting(parser, name);
		return 1;
	}
	seen = &parser->seen[parser->socket][setting - config_settings];
	if (*seen) {
		fault(parser, parser->line, "[%s] %s: stands twice, first in line %d", parser->section, setting->name,
		      *seen);
		return 1;
	}
	*seen = parser->line;
	rc = config_set(parser->config, setting, parser->socket, value, right, sizeof(right));
	if (rc == -EINVAL)
		wrong_value(parser, setting, value, right);
	else if (rc != 0)
		parser->no_memory = true;
	return 1;
}

/* Settings that are right by themselves and wrong together; the line is that of the one that the file names. */
static void check_pair(struct parser *parser, const char *section, const char *low, const char *high)
{
	const struct config_setting *a = config_find(section, low), *b = config_find(section, high);
	uint32_t x = *(const uint32_t *)(const void *)((const char *)parser->config + a->offset);
	uint32_t y = *(const uint32_t *)(const void *)((const char *)parser->config + b->offset);
	int line = parser->seen[0][a - config_settings];

	if (x <= y)
		return;
	if (!line)
		line = parser->seen[0][b - config_settings];
	fault(parser, line, "[%s] %s = %u: must not be above %s, which is %u", section, low, x, high, y);
}

/* Its text may stand in several lines, so it is read when all of them are there. */
static void check_grace(struct parser *parser)
{
	const struct config_setting *setting = config_find("freshness", "offline_grace");
	struct config *config = parser->config;
	char right[160];
	int rc = config_grace_new(config->offline_grace, &config->grace, right, sizeof(right));

	if (rc == -EINVAL)
		fault(parser, parser->seen[0][setting - config_settings], "[freshness] offline_grace = %.*s: %s",
		      VALUE_SHOWN, config->offline_grace, right);
	else if (rc != 0)
		fault(parser, 0, "no memory");
}

/* What has no default must be there. */
static void check_given(struct parser *parser)
{
	const struct config_setting *path = config_find("socket", "path");
	char section[CONFIG_SECTION_SIZE];

	for (unsigned i = 1; i < parser->config->check_count; i++) {
		if (parser->seen[i][path - config_settings] == 0)
			fault(parser, parser->opened[i], "[%s]: needs a path, which has no default",
			      config_socket_section(&parser->config->check[i], section));
	}
}

struct socket_path {
	const char *path;
	char section[CONFIG_SECTION_SIZE];
	int line; /* of the path */
};

/* Each socket has a path of its own; of two, the one that stands later is wrong. */
static void check_paths(struct parser *parser)
{
	const struct config_setting *path = config_find("socket", "path"), *admin = config_find("admin", "path");
	const struct config *c = parser->config;
	struct socket_path paths[SOCKETS + 1];
	unsigned count = 0;

	for (; count < c->check_count; count++) {
		paths[count].path = c->check[count].path;
		paths[count].line = parser->seen[count][path - config_settings];
		config_socket_section(&c->check[count], paths[count].section);
	}
	paths[count++] = (struct socket_path){
		.path = c->admin.path, .section = "admin", .line = parser->seen[0][admin - config_settings]};
	for (unsigned i = 0; i < count; i++) {
		for (unsigned k = 0; k < i; k++) {
			bool later = paths[i].line >= paths[k].line;
			const struct socket_path *wrong = &paths[later ? i : k], *right = &paths[later ? k : i];

			if (strcmp(wrong->path, right->path) == 0)
				fault(parser, wrong->line, "[%s] path = %s: must not be the path of [%s]",
				      wrong->section, wrong->path, right->section);
		}
	}
}

static void check_whole(struct parser *parser)
{
	check_pair(parser, "database", "backoff_min_ms", "backoff_max_ms");
	check_pair(parser, "limits", "deadline_ms", "deadline_max_ms");
	check_paths(parser);
}

/* ---- afterwards ---- */

static bool keep_places(const struct parser *parser)
{
	struct config_places *places = malloc(sizeof(*places));

	_Static_assert(sizeof(places->lines) == sizeof(parser->seen), "the same table");
	parser->config->places = places;
	if (!places)
		return false;
	places->file = strdup(parser->name);
	memcpy(places->lines, parser->seen, sizeof(places->lines));
	return places->file != NULL;
}

void config_places_free(struct config_places *places)
{
	if (places)
		free(places->file);
	free(places);
}

const char *config_where(const struct config *config, const char *section, const char *name, char *out, size_t size)
{
	const struct config_places *places = config->places;
	const struct config_setting *setting;
	char known[CONFIG_SECTION_SIZE];
	unsigned socket = 0;

	for (unsigned i = 1; i < config->check_count; i++) {
		if (strcmp(config_socket_section(&config->check[i], known), section) == 0)
			socket = i;
	}
	setting = config_find(socket > 0 ? "socket" : section, name);
	if (places && setting && places->lines[socket][setting - config_settings] > 0)
		snprintf(out, size, "%s:%d", places->file, places->lines[socket][setting - config_settings]);
	else
		snprintf(out, size, "%s", places ? places->file : "defaults");
	return out;
}

struct config *config_parse(const char *text, size_t len, const char *name, char *errors, size_t error_size)
{
	struct parser parser = {
		.name = name, .text = text, .end = text + len, .errors = errors, .error_size = error_size};

	if (error_size > 0)
		errors[0] = '\0';
	parser.config = config_new();
	if (!parser.config) {
		fault(&parser, 0, "no memory");
		return NULL;
	}
	if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
		parser.text += 3;
	ini_parse_stream(read_line, &parser, handle, &parser);
	close_line(&parser);
	if (!keep_places(&parser) || parser.no_memory)
		fault(&parser, 0, "no memory");
	check_given(&parser);
	check_grace(&parser);
	if (parser.error_count == 0)
		check_whole(&parser);
	if (parser.error_count > 0) {
		config_free(parser.config);
		return NULL;
	}
	return parser.config;
}
