#include "client/apikeyctl/metrics_text.h"

#include <stdint.h>
#include <string.h>

#include "client/apikeyctl/metrics_table.h"
#include "proto/verdict.h"

enum {
	PATH_SIZE = 256,
	STARS_MAX = 3,
	VALUE_SIZE = 128, /* of a label's value; a longer one is cut */
	DEPTH_MAX = 6,
};

const char metrics_up_name[] = "apikeyd_up";
const char metrics_up_help[] = "1 where the daemon answered, 0 where it did not.";

/* One walk over the samples of a row. */
struct walk {
	FILE *out;
	const struct value *stats;
	const struct metric *metric; /* of the row that has the name */
	const struct metric *row;
	bool headed; /* the lines about the metric stand there */
	char path[PATH_SIZE];
	char stars[STARS_MAX][VALUE_SIZE]; /* what each `*` stands for */
	unsigned star_count;
};

/* ---- lines ---- */

static void put_head(FILE *out, const char *name, const char *type, const char *unit, const char *help)
{
	fprintf(out, "# TYPE %s %s\n", name, type);
	if (unit)
		fprintf(out, "# UNIT %s %s\n", name, unit);
	fprintf(out, "# HELP %s %s\n", name, help);
}

/* Once, before the first sample: a metric without samples is left out. */
static void head(struct walk *walk)
{
	static const char *const types[] = {"counter", "gauge", "histogram"};

	if (!walk->headed)
		put_head(walk->out, walk->metric->name, types[walk->metric->type], walk->metric->unit,
			 walk->metric->help);
	walk->headed = true;
}

static void put_escaped(FILE *out, const char *text)
{
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '\n')
			fputs("\\n", out);
		else if (c == '"' || c == '\\')
			fprintf(out, "\\%c", c);
		else
			fputc(c >= 0x20 && c < 0x7f ? c : '?', out);
	}
}

/* One label after the other; `*` and `?` as metrics_table.h has them. */
struct label {
	const char *name, *value;
	int name_len, value_len;
};

static bool next_label(const char **at, struct label *ret)
{
	const char *name = *at, *equals = name ? strchr(name, '=') : NULL;

	if (!equals)
		return false;
	ret->name = name;
	ret->name_len = (int)(equals - name);
	ret->value = equals + 1;
	ret->value_len = (int)strcspn(equals + 1, ",");
	*at = ret->value[ret->value_len] ? ret->value + ret->value_len + 1 : NULL;
	return true;
}

static const char *verdict_for(const char *word)
{
	enum reason reason;

	return reason_from_word(word, strlen(word), &reason) ? verdict_word(verdict_of(reason)) : "unknown";
}

/* `text`: what is found, where that is a text. `more`, `bound`: a label of the sample's own, or NULL. */
static void put_labels(const struct walk *walk, const char *text, const char *more, const char *bound)
{
	const char *at = walk->row->labels, *mark = "{";
	unsigned star = 0;
	struct label label;

	while (next_label(&at, &label)) {
		const char *found = star < walk->star_count ? walk->stars[star] : text ? text : "";

		fprintf(walk->out, "%s%.*s=\"", mark, label.name_len, label.name);
		if (*label.value == '*') {
			put_escaped(walk->out, found);
			star++;
		} else if (*label.value == '?') {
			put_escaped(walk->out, verdict_for(found));
		} else {
			fprintf(walk->out, "%.*s", label.value_len, label.value);
		}
		fputc('"', walk->out);
		mark = ",";
	}
	if (more)
		fprintf(walk->out, "%s%s=\"%s\"", mark, more, bound);
	if (more || *mark == ',')
		fputc('}', walk->out);
}

/* ---- numbers ---- */

/* Without an exponent, and as exact as it came. */
static void format_count(uint64_t count, bool negative, unsigned per, char *out, size_t size)
{
	uint64_t rest = per ? count % per : 0;
	int len;

	if (per == 0)
		per = 1;
	len = snprintf(out, size, "%s%llu", negative ? "-" : "", (unsigned long long)(count / per));
	if (rest == 0 || len < 0)
		return;
	out[len++] = '.';
	while (rest > 0 && (size_t)len + 1 < size) {
		rest *= 10;
		out[len++] = (char)('0' + rest / per);
		rest %= per;
	}
	out[len] = '\0';
}

static bool format(const struct value *value, unsigned per, char *out, size_t size)
{
	switch (value->type) {
	case VALUE_BOOL:
		format_count(value->truth, false, 0, out, size);
		return true;
	case VALUE_UINT:
		format_count(value->unsigned_integer, false, per, out, size);
		return true;
	case VALUE_INT:
		format_count(value->integer < 0 ? -(uint64_t)value->integer : (uint64_t)value->integer,
			     value->integer < 0, per, out, size);
		return true;
	case VALUE_FLOAT:
		snprintf(out, size, "%.17g", per ? value->real / per : value->real);
		return true;
	default:
		return false;
	}
}

/* ---- samples ---- */

static void put_number(struct walk *walk, const struct value *value)
{
	char number[64];

	if (!format(value, walk->metric->per, number, sizeof(number)))
		return;
	head(walk);
	fprintf(walk->out, "%s%s", walk->metric->name, walk->metric->type == METRIC_COUNTER ? "_total" : "");
	put_labels(walk, NULL, NULL, NULL);
	fprintf(walk->out, " %s\n", number);
}

static void put_text(struct walk *walk, const char *text)
{
	head(walk);
	fputs(walk->metric->name, walk->out);
	put_labels(walk, text, NULL, NULL);
	fputs(" 1\n", walk->out);
}

/* A sample for each word that it may be; one that nobody knows comes as one more. */
static void put_words(struct walk *walk, const char *text)
{
	const char *at = walk->row->words;
	bool known = false;

	head(walk);
	while (*at) {
		size_t len = strcspn(at, "|");
		char word[VALUE_SIZE];
		bool is = strlen(text) == len && memcmp(text, at, len) == 0;

		snprintf(word, sizeof(word), "%.*s", (int)len, at);
		known |= is;
		fputs(walk->metric->name, walk->out);
		put_labels(walk, word, NULL, NULL);
		fprintf(walk->out, " %d\n", is);
		at += len + (at[len] == '|');
	}
	if (!known)
		put_text(walk, text);
}

/* A map of `count`, `sum_us` and le_<µs>, in the order of the bounds. */
static void put_histogram(struct walk *walk, const struct value *map)
{
	const struct value *count = value_get(map, "count"), *sum = value_get(map, "sum_us");
	const char *name = walk->metric->name;
	char number[64], bound[64];

	if (!count || !sum || !format(count, 0, number, sizeof(number)))
		return;
	head(walk);
	for (uint32_t i = 0; i < map->count; i++) {
		const struct value_field *field = &map->fields[i];
		unsigned long long us;
		int end = 0;

		if (sscanf(field->name, "le_%llu%n", &us, &end) != 1 || field->name[end] ||
		    !format(&field->value, 0, number, sizeof(number)))
			continue;
		format_count(us, false, walk->metric->per, bound, sizeof(bound));
		fprintf(walk->out, "%s_bucket", name);
		put_labels(walk, NULL, "le", bound);
		fprintf(walk->out, " %s\n", number);
	}
	format(count, 0, number, sizeof(number));
	fprintf(walk->out, "%s_bucket", name);
	put_labels(walk, NULL, "le", "+Inf");
	fprintf(walk->out, " %s\n%s_count", number, name);
	put_labels(walk, NULL, NULL, NULL);
	fprintf(walk->out, " %s\n%s_sum", number, name);
	put_labels(walk, NULL, NULL, NULL);
	format(sum, walk->metric->per, number, sizeof(number));
	fprintf(walk->out, " %s\n", number);
}

static void put_sample(struct walk *walk, const struct value *value)
{
	if (walk->metric->type == METRIC_HISTOGRAM) {
		if (value->type == VALUE_MAP)
			put_histogram(walk, value);
		return;
	}
	if (value->type != VALUE_TEXT)
		put_number(walk, value);
	else if (walk->row->words)
		put_words(walk, value->text);
	else if (walk->row->labels && walk->star_count == 0)
		put_text(walk, value->text);
}

/* ---- finding them ---- */

/* Whether a row, or the list of what is left out, has this very name. */
static bool is_named(const char *path)
{
	for (const struct metric *row = metrics_table; row->from; row++) {
		if (strcmp(row->from, path) == 0)
			return true;
	}
	for (const struct metric_left *left = metrics_left; left->from; left++) {
		if (strcmp(left->from, path) == 0)
			return true;
	}
	return false;
}

/* One name against one part of `from`, which has one `*` at most. What that stands for becomes the next of the stars. */
static bool match(struct walk *walk, const char *part, size_t len, const char *name)
{
	const char *star = memchr(part, '*', len);
	size_t before, after, name_len = strlen(name);

	if (!star)
		return name_len == len && memcmp(part, name, len) == 0;
	before = (size_t)(star - part);
	after = len - before - 1;
	if (walk->star_count == STARS_MAX || name_len <= before + after || memcmp(part, name, before) != 0 ||
	    memcmp(star + 1, name + name_len - after, after) != 0)
		return false;
	snprintf(walk->stars[walk->star_count++], VALUE_SIZE, "%.*s", (int)(name_len - before - after), name + before);
	return true;
}

/* All that `from` names below `map`. `len`: of the path to there. */
static void find(struct walk *walk, const struct value *map, const char *from, size_t len, unsigned depth)
{
	size_t part = strcspn(from, ".");
	bool last = from[part] == '\0', has_star = strchr(walk->row->from, '*') != NULL;

	if (map->type != VALUE_MAP || depth > DEPTH_MAX)
		return;
	for (uint32_t i = 0; i < map->count; i++) {
		const struct value_field *field = &map->fields[i];
		unsigned stars = walk->star_count;
		int more;

		if (!match(walk, from, part, field->name))
			continue;
		more = snprintf(walk->path + len, PATH_SIZE - len, "%s%s", len ? "." : "", field->name);
		if (more > 0 && (size_t)more < PATH_SIZE - len && !(last && has_star && is_named(walk->path))) {
			if (last)
				put_sample(walk, &field->value);
			else
				find(walk, &field->value, from + part + 1, len + (size_t)more, depth + 1);
		}
		walk->star_count = stars;
	}
}

void metrics_text(FILE *out, const struct value *stats)
{
	struct walk walk = {.out = out, .stats = stats};

	put_head(out, metrics_up_name, "gauge", NULL, metrics_up_help);
	fprintf(out, "%s 1\n", metrics_up_name);
	for (const struct metric *row = metrics_table; row->from; row++) {
		if (row->name) {
			walk.metric = row;
			walk.headed = false;
		}
		walk.row = row;
		walk.star_count = 0;
		if (!row->when || value_as_bool(value_get(stats, row->when), false))
			find(&walk, stats, row->from, 0, 0);
	}
	fputs("# EOF\n", out);
}

void metrics_text_down(FILE *out)
{
	put_head(out, metrics_up_name, "gauge", NULL, metrics_up_help);
	fprintf(out, "%s 0\n# EOF\n", metrics_up_name);
}
