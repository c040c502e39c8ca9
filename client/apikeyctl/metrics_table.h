/*
 * The metrics: the one table that says what each is called, what it means, and where in the daemon's `stats` it stands.
 *
 * Owns nothing; all constant. Who reads it: metrics_text.c, which makes OpenMetrics text of it, and metrics.c, which lists
 * it. tests/system/test_metrics.py sees to it that each name in `stats` is in here.
 *
 * Always holds: names are as Prometheus recommends them: `apikeyd_` before, base units behind, a label and no name where
 * numbers can be added up. What has been released keeps its name and its meaning. Types are those that the older text
 * format has, too: node exporter's textfile collector throws away a file that has others, such as `info`.
 */
#ifndef APIKEYCTL_METRICS_TABLE_H
#define APIKEYCTL_METRICS_TABLE_H

enum metric_type { METRIC_COUNTER = 0, METRIC_GAUGE, METRIC_HISTOGRAM };

struct metric {
	const char *name; /* of a counter without its _total; NULL: further samples of the metric above */
	enum metric_type type;
	const char *unit; /* the name ends with it; NULL: none */
	const char *help;
	/*
	 * Where it stands in `stats`, with dots between the names of maps. A `*` is any text: what it stands for goes into
	 * a label. Names that another row has without one are left to that row.
	 */
	const char *from;
	/*
	 * `label=value`, comma-separated; NULL: none. A value `*` is what the next `*` of `from` stands for, or, where that
	 * has no more, the text of what is found; a value `?` the verdict of the reason in the label behind it.
	 */
	const char *labels;
	/* A text that is one of these, with `|` between: a sample for each, 1 for the one that it is and 0 for the others. */
	const char *words;
	unsigned per;	  /* so many of what is counted are one of the unit; 0: as it is */
	const char *when; /* only where this name of `stats` is true; NULL: always */
};

/* Ends with a row that has no `from`. */
extern const struct metric metrics_table[];

/* What `stats` has and no metric is made of. */
struct metric_left {
	const char *from; /* NULL: the end */
	const char *why;
};

extern const struct metric_left metrics_left[];

#endif
