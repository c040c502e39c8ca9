/*
 * The copy in memory by itself, without daemon and database: how fast it fills, what a key costs in bytes, what a
 * look-up costs one by one and in passes, how fast changes are applied, and how one organization's pages come and go.
 *
 * The world is made up: 100 keys to an organization, 3 pages to an organization, 10 keys to a user, half of the keys of
 * users, every 20th key narrowed to pages and scopes. The same numbers are drawn in every run. Prints a table; a wrong
 * answer of the copy ends it, a clock never does.
 */
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "daemon/mirror/copy.h"

enum { ASKED = 1 << 20, BATCH_MAX = 128, ROUNDS_MAX = 99, FIRST_PAGE = 1000000000 };

static struct {
	uint64_t keys, pages, changes;
	unsigned transaction, rounds;
} options = {.keys = 1000000, .pages = 200000, .changes = 200000, .transaction = 1000, .rounds = 3};

static uint64_t rev;

static int64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void die(const char *what, int err)
{
	fprintf(stderr, "copy: %s: %s\n", what, strerror(err));
	exit(1);
}

static void wrong(const char *what)
{
	fprintf(stderr, "copy: wrong answer: %s\n", what);
	exit(1);
}

static void put(int err)
{
	if (err)
		die("staging", -err);
}

static uint64_t random_next(void)
{
	static uint64_t s = 88172645463325252ULL;
	s ^= s << 13;
	s ^= s >> 7;
	s ^= s << 17;
	return s;
}

static uint64_t resident_bytes(void)
{
	unsigned long long size, resident = 0;
	FILE *file = fopen("/proc/self/statm", "re");
	if (!file || fscanf(file, "%llu %llu", &size, &resident) != 2)
		die("/proc/self/statm", errno);
	fclose(file);
	return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double median(double *figures, unsigned count)
{
	qsort(figures, count, sizeof(*figures), by_size);
	return figures[count / 2];
}

/* ---- the world ---- */

static uint64_t organizations(void)
{
	return options.keys / 100 + 1;
}

static uint64_t pages(void)
{
	return 3 * (options.keys / 100) + 3;
}

static uint64_t users(void)
{
	return options.keys / 10 + 1;
}

static const struct rpc_text scope_names[] = {{"incident:read", 13}, {"incident:write", 14}, {"page:read", 9}};

static void put_catalog(struct copy *copy)
{
	struct copy_scope_row scopes[] = {{scope_names[0], 1}, {scope_names[1], 1}, {scope_names[2], 1}};
	struct copy_role_row roles[] = {{RULE_ROLE_ORGANIZATION, {"editor", 6}, 1},
					{RULE_ROLE_PAGE, {"editor", 6}, 1},
					{RULE_ROLE_KEY, {"read", 4}, 1},
					{RULE_ROLE_KEY, {"write", 5}, 2}};
	struct copy_grant_row grants[] = {{RULE_ROLE_ORGANIZATION, {"editor", 6}, scope_names[0], false},
					  {RULE_ROLE_KEY, {"read", 4}, scope_names[0], false}};
	put(copy_put_catalog(copy, scopes, 3, roles, 4, grants, 2));
}

/* A name with a number at its end, in a buffer that the next call takes. */
static struct rpc_text name(const char *stem, uint64_t number)
{
	static char text[64];
	return (struct rpc_text){text,
				 (uint32_t)snprintf(text, sizeof(text), "%s-%llu", stem, (unsigned long long)number)};
}

/* Ids as random ones lie: all over 59 bits, no two the same. */
static keytext_id key_id(uint64_t i)
{
	return (i + 1) * UINT64_C(0x9e3779b97f4a7c15) & ((UINT64_C(1) << 59) - 1);
}

static void put_key(struct copy *copy, uint64_t i, bool revoked)
{
	int64_t listed[] = {(int64_t)(i % pages()), (int64_t)(i * 7 % pages())};
	struct copy_key_row row = {
		.id = key_id(i),
		.kind = i % 2 ? KEY_KIND_ORGANIZATION : KEY_KIND_USER,
		.owner_id = (int64_t)(i % 2 ? i / 2 % organizations() : i / 2 % users()),
		.pepper = 1,
		.flags = revoked ? RULE_REVOKED : 0,
		.not_before = INT64_MIN,
		.expires_at = INT64_MAX,
		.retired_at = INT64_MAX,
	};
	if (i % 2)
		row.access = (struct rpc_text){"write", 5};
	if (i % 20 < 2 && i / 20 % 2 == i % 2) {
		row.flags |= RULE_NARROWED_PAGES | RULE_NARROWED_SCOPES;
		row.pages = listed;
		row.page_count = 2;
		row.scopes = scope_names;
		row.scope_count = 2;
	}
	memcpy(row.hash, &i, sizeof(i));
	put(copy_put_key(copy, &row));
}

static void put_page(struct copy *copy, int64_t id, int64_t organization, struct rpc_text slug)
{
	put(copy_put_page(copy, &(struct copy_page_row){id, organization, slug, false}));
}

static struct copy *make_world(void)
{
	struct copy *copy = copy_new(options.keys, pages(), users());
	if (!copy)
		die("copy_new", ENOMEM);
	put_catalog(copy);
	for (uint64_t i = 0; i < organizations(); i++)
		put(copy_put_organization(copy,
					  &(struct copy_organization_row){(int64_t)i, name("organization", i), false}));
	for (uint64_t i = 0; i < pages(); i++)
		put_page(copy, (int64_t)i, (int64_t)(i / 3 % organizations()), name("page", i));
	for (uint64_t i = 0; i < users(); i++) {
		struct copy_role_at organization = {(int64_t)(i % organizations()), {"editor", 6}};
		struct copy_role_at page = {(int64_t)(i % pages()), {"editor", 6}};
		put(copy_put_user(copy, &(struct copy_user_row){.id = (int64_t)i,
								.email = name("someone", i),
								.organizations = &organization,
								.pages = &page,
								.organization_count = 1,
								.page_count = i % 10 == 0}));
	}
	for (uint64_t i = 0; i < options.keys; i++)
		put_key(copy, i, false);
	copy_publish(copy, ++rev);
	return copy;
}

/* ---- look-ups ---- */

static keytext_id asked[ASKED];

static void ask_anew(void)
{
	for (unsigned i = 0; i < ASKED; i++)
		asked[i] = key_id(random_next() % options.keys);
}

/* Each look-up waits for the one before, as where one is judged to its end before the next begins. */
static double look_up_serially(const struct copy *copy)
{
	int64_t begin = now_ns();
	keytext_id chain = 0;
	for (unsigned i = 0; i < ASKED; i++) {
		keytext_id id = asked[i] ^ chain;
		const struct copy_key *found;
		copy_find_keys(copy, &id, 1, &found);
		if (!found)
			wrong("a key is not found");
		chain = copy_key_id(found) ^ asked[i]; /* always 0, but nobody knows before the record is read */
	}
	return (double)(now_ns() - begin) / ASKED;
}

static double look_up_in_passes(const struct copy *copy, unsigned batch)
{
	const struct copy_key *found[BATCH_MAX];
	int64_t begin = now_ns();
	for (unsigned done = 0; done < ASKED; done += batch) {
		copy_find_keys(copy, asked + done, batch, found);
		for (unsigned i = 0; i < batch; i++)
			if (!found[i] || copy_key_id(found[i]) != asked[done + i])
				wrong("a key is not found");
	}
	return (double)(now_ns() - begin) / ASKED;
}

/* What copy_who takes right after a look-up, a key. */
static double ask_who(const struct copy *copy, unsigned batch)
{
	const struct copy_key *found[BATCH_MAX];
	int64_t asking = 0;
	uint64_t owners = 0, live = 0;
	for (unsigned done = 0; done < ASKED; done += batch) {
		copy_find_keys(copy, asked + done, batch, found);
		int64_t begin = now_ns();
		for (unsigned i = 0; i < batch; i++) {
			struct copy_user user;
			struct rule_who who;
			copy_who(copy, found[i], &who, &user);
			live += (who.flags & RULE_LIVE) != 0;
			owners += user.handle != 0;
		}
		asking += now_ns() - begin;
	}
	if (live != ASKED || owners == 0)
		wrong("a key stands for nobody");
	return (double)asking / ASKED;
}

/* What a pair of calls to the clock adds to each batch. */
static double clock_cost(void)
{
	int64_t begin = now_ns();
	for (unsigned i = 0; i < 100000; i++)
		(void)now_ns();
	return (double)(now_ns() - begin) / 100000;
}

static void show_look_ups(const struct copy *copy)
{
	static const unsigned batches[] = {1, 16, BATCH_MAX};
	enum { KINDS = sizeof(batches) / sizeof(*batches) };
	double serial[ROUNDS_MAX], passes[KINDS][ROUNDS_MAX], who[KINDS][ROUNDS_MAX], once = clock_cost();
	for (unsigned round = 0; round < options.rounds; round++) {
		ask_anew();
		serial[round] = look_up_serially(copy);
		for (unsigned k = 0; k < KINDS; k++) {
			passes[k][round] = look_up_in_passes(copy, batches[k]);
			who[k][round] = ask_who(copy, batches[k]) - once / batches[k];
		}
	}
	double floor = median(serial, options.rounds);
	printf("\n%-36s %10s %15s %12s\n", "look-up of random keys", "ns a key", "serial / this", "who, ns");
	printf("%-36s %10.1f %15.2f %12s\n", "  serial", floor, 1.0, "-");
	for (unsigned k = 0; k < KINDS; k++) {
		double ns = median(passes[k], options.rounds);
		printf("  in passes, batches of %-12u %10.1f %15.2f %12.1f\n", batches[k], ns, floor / ns,
		       median(who[k], options.rounds));
	}
}

/* ---- changes ---- */

/* Keys revoked and given back, `transaction` to a revision, each revision published and tidied up. */
static double apply(struct copy *copy, uint64_t changes, unsigned transaction, bool revoked)
{
	int64_t begin = now_ns();
	for (uint64_t done = 0; done < changes;) {
		for (unsigned i = 0; i < transaction && done < changes; i++, done++)
			put_key(copy, random_next() % options.keys, revoked);
		copy_publish(copy, ++rev);
		while (copy_tidy(copy, transaction))
			;
	}
	return (double)(now_ns() - begin) / (double)changes;
}

static void show_changes(struct copy *copy)
{
	unsigned transactions[] = {1, options.transaction};
	double figures[2][ROUNDS_MAX];
	for (unsigned round = 0; round < options.rounds; round++)
		for (unsigned k = 0; k < 2; k++)
			figures[k][round] = apply(copy, options.changes, transactions[k], round % 2 == 0);
	printf("\n%-36s %10s %15s\n", "applying changes of keys", "ns each", "a second");
	for (unsigned k = 0; k < 2; k++) {
		double ns = median(figures[k], options.rounds);
		printf("  revisions of %-21u %10.0f %15.0f\n", transactions[k], ns, 1e9 / ns);
	}
}

/* ---- the pages of one organization ---- */

static bool on_page(void *data, const struct copy_page *page)
{
	(void)page;
	++*(uint64_t *)data;
	return true;
}

static void expect_pages(const struct copy *copy, uint64_t wanted)
{
	struct copy_organization organization;
	uint64_t seen = 0;
	if (!copy_find_organization(copy, (struct rpc_text){"large", 5}, &organization))
		wrong("the organization is not found");
	copy_walk_pages(copy, organization.handle, (struct rpc_text){0}, on_page, &seen);
	if (seen != wanted)
		wrong("an organization's pages");
}

static int64_t finish(struct copy *copy)
{
	copy_publish(copy, ++rev);
	while (copy_tidy(copy, 1000))
		;
	return now_ns();
}

/* All in one revision; the slugs come in no order. */
static void come_and_go(struct copy *copy, uint64_t count, double *ret_come, double *ret_go)
{
	put(copy_put_organization(copy, &(struct copy_organization_row){-1, {"large", 5}, false}));
	int64_t begin = finish(copy);
	for (uint64_t i = 0; i < count; i++)
		put_page(copy, FIRST_PAGE + (int64_t)i, -1, name("p", key_id(i)));
	int64_t there = finish(copy);
	expect_pages(copy, count);
	int64_t again = now_ns();
	for (uint64_t i = 0; i < count; i++)
		put(copy_remove_page(copy, FIRST_PAGE + (int64_t)i));
	int64_t gone = finish(copy);
	expect_pages(copy, 0);
	*ret_come = (double)(there - begin) / (double)count;
	*ret_go = (double)(gone - again) / (double)count;
}

static void show_pages(struct copy *copy)
{
	uint64_t counts[] = {(options.pages + 9) / 10, options.pages};
	double come[2], go[2];
	if (!options.pages)
		return;
	for (unsigned k = 0; k < 2; k++)
		come_and_go(copy, counts[k], &come[k], &go[k]);
	printf("\n%-36s %10s %15s\n", "pages of one organization, one revision", "ns to add", "ns to remove");
	for (unsigned k = 0; k < 2; k++)
		printf("  %-34llu %10.0f %15.0f\n", (unsigned long long)counts[k], come[k], go[k]);
	printf("  %-34s %10.2f %15.2f\n", "the second / the first", come[1] / come[0], go[1] / go[0]);
}

/* ---- */

static void usage(FILE *file)
{
	fprintf(file,
		"usage: bench_copy [--keys N] [--pages N] [--changes N] [--transaction N] [--rounds N]\n"
		"Measures the copy in memory by itself and prints a table.\n"
		"  --keys N         keys in the copy (default 1000000)\n"
		"  --pages N        pages that one organization gets and loses (default 200000; 0: leave that out)\n"
		"  --changes N      changes that are applied in each way (default 200000)\n"
		"  --transaction N  changes to a large revision (default 1000)\n"
		"  --rounds N       of look-ups and changes, medians are shown (default 3, at most 99)\n");
}

static uint64_t number(const char *text, uint64_t least, uint64_t most)
{
	char *end;
	errno = 0;
	unsigned long long value = strtoull(text, &end, 10);
	if (errno || end == text || *end || *text == '-' || value < least || value > most) {
		fprintf(stderr, "copy: %s: not a number from %llu to %llu; --help says more\n", text,
			(unsigned long long)least, (unsigned long long)most);
		exit(2);
	}
	return value;
}

static void parse(int argc, char **argv)
{
	static const struct option longs[] = {
		{"keys", 1, NULL, 'k'},	   {"pages", 1, NULL, 'p'},
		{"changes", 1, NULL, 'c'}, {"transaction", 1, NULL, 't'},
		{"rounds", 1, NULL, 'r'},  {"help", 0, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	for (int o; (o = getopt_long(argc, argv, "k:p:c:t:r:h", longs, NULL)) != -1;) {
		switch (o) {
		case 'k':
			options.keys = number(optarg, 1, 1000000000);
			break;
		case 'p':
			options.pages = number(optarg, 0, 100000000);
			break;
		case 'c':
			options.changes = number(optarg, 1, 1000000000);
			break;
		case 't':
			options.transaction = (unsigned)number(optarg, 1, 100000000);
			break;
		case 'r':
			options.rounds = (unsigned)number(optarg, 1, ROUNDS_MAX);
			break;
		default:
			usage(o == 'h' ? stdout : stderr);
			exit(o == 'h' ? 0 : 2);
		}
	}
	if (optind < argc) {
		usage(stderr);
		exit(2);
	}
}

int main(int argc, char **argv)
{
	parse(argc, argv);
	uint64_t empty = resident_bytes();
	int64_t begin = now_ns();
	struct copy *copy = make_world();
	double seconds = (double)(now_ns() - begin) / 1e9, keys = (double)options.keys;
	uint64_t full = resident_bytes();
	struct copy_counts counts;

	copy_count(copy, &counts);
	if (counts.keys != options.keys || counts.users != users() || counts.dropped_references)
		wrong("the counts");
	printf("%llu keys, %llu organizations, %llu pages, %llu users; 5 %% of the keys narrowed\n",
	       (unsigned long long)counts.keys, (unsigned long long)counts.organizations,
	       (unsigned long long)counts.pages, (unsigned long long)counts.users);
	printf("%-36s %10.0f keys a second, %.2f s\n", "  built and published", keys / seconds, seconds);
	printf("%-36s %10.1f bytes a key\n", "  memory, by the copy's own account", (double)counts.bytes / keys);
	printf("%-36s %10.1f bytes a key\n", "  memory, resident", (double)(full - empty) / keys);
	show_look_ups(copy);
	show_changes(copy);
	show_pages(copy);
	copy_free(copy);
	return 0;
}
