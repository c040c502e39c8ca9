/*
 * hostile_identify: a module that identifies, and whose principals nobody should believe. Arguments:
 *
 *     what=WORD       the principal, see `build`; `good` is a sound one: organization `org`, access write
 *     org=SLUG        whose organization key it says it is (default acme)
 *     user=N          whose user key, where it is a user's
 *     code=N          what it answers afterwards, as a number (default 1, success)
 *     later=yes       waits, and completes from a thread of its own with that principal
 *
 * What it says of a break-glass key is sound (a page, a scope and an end in an hour) but for what `what` breaks.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/apikeyd-module.h"

enum { WHAT, ORG, USER, PAGE, SCOPE, CODE, LATER, ARGUMENTS };

#define WORDS                                                                                                           \
	"good|user|glass|nothing|twice|after_other|kind_none|kind_unknown|size_zero|size_short|size_huge|"              \
	"unknown_org|unknown_user|negative_user|org_null|org_empty|org_endless|org_binary|"                             \
	"pages_million|pages_null|scopes_million|scopes_null|networks_million|networks_null|counts_without_flags|"      \
	"page_null|page_endless|page_unknown|scope_pattern|scope_unknown|network_family|network_prefix|"                \
	"times_reversed|times_least|glass_far|glass_day|glass_endless|glass_past|glass_open|glass_member|glass_apikey|" \
	"glass_org|glass_pattern|glass_unknown_org"

static const struct apikeyd_argument arguments[] = {
	[WHAT] = {.name = "what", .type = APIKEYD_TYPE_WORD, .fallback = "good", .words = WORDS, .help = "which"},
	[ORG] = {.name = "org", .type = APIKEYD_TYPE_TEXT, .fallback = "acme", .help = "slug"},
	[USER] = {.name = "user", .type = APIKEYD_TYPE_COUNT, .fallback = "1", .help = "apikeyd.user.id"},
	[PAGE] = {.name = "page", .type = APIKEYD_TYPE_TEXT, .fallback = "acme", .help = "slug, of narrowed ones"},
	[SCOPE] = {.name = "scope",
		   .type = APIKEYD_TYPE_TEXT,
		   .fallback = "incident:write",
		   .help = "of narrowed ones"},
	[CODE] = {.name = "code", .type = APIKEYD_TYPE_COUNT, .fallback = "1", .help = "what it answers"},
	[LATER] = {.name = "later", .type = APIKEYD_TYPE_BOOL, .fallback = "no", .help = "from a thread"},
	[ARGUMENTS] = {0},
};

enum { THREADS_MAX = 256 };

struct instance {
	struct apikeyd_self *self;
	const struct apikeyd_host *host;
	const struct apikeyd_value *values;
	pthread_t threads[THREADS_MAX]; /* the last ones, a ring */
	uint64_t thread_count;
};

/* A principal and what it points to: on the heap alone, so that reading past the end of anything is seen by ASan. */
struct claim {
	struct apikeyd_principal principal;
	struct apikeyd_text pages[1], scopes[1];
	struct apikeyd_network networks[1];
};

static const int64_t hour_us = 3600 * (int64_t)1000000;

static struct apikeyd_text text_of(const char *text)
{
	return (struct apikeyd_text){.data = text, .len = (uint32_t)strlen(text)};
}

/* Narrowed to one page, one scope and all networks. */
static void narrow(const struct apikeyd_value *values, struct claim *claim)
{
	struct apikeyd_principal *p = &claim->principal;

	claim->pages[0] = text_of(values[PAGE].text);
	claim->scopes[0] = text_of(values[SCOPE].text);
	claim->networks[0] = (struct apikeyd_network){.family = 4, .prefix = 0};
	p->narrowed_pages = p->narrowed_scopes = true;
	p->pages = claim->pages;
	p->scopes = claim->scopes;
	p->networks = claim->networks;
	p->page_count = p->scope_count = 1;
}

/* Where a kind, a size or a name is wrong. False: it is none of these. */
static bool break_name(const char *what, struct apikeyd_principal *p)
{
	static const char binary[] = {'a', '\0', '\n', (char)0xff};
	struct apikeyd_text *org = &p->organization;

	if (strcmp(what, "kind_none") == 0)
		p->kind = APIKEYD_KIND_NONE;
	else if (strcmp(what, "kind_unknown") == 0)
		p->kind = (enum apikeyd_kind)99;
	else if (strcmp(what, "size_zero") == 0)
		p->size = 0;
	else if (strcmp(what, "size_short") == 0)
		p->size = offsetof(struct apikeyd_principal, writes);
	else if (strcmp(what, "size_huge") == 0)
		p->size = UINT32_MAX;
	else if (strcmp(what, "unknown_user") == 0)
		p->kind = APIKEYD_KIND_USER, p->user_id = INT64_MAX;
	else if (strcmp(what, "negative_user") == 0)
		p->kind = APIKEYD_KIND_USER, p->user_id = INT64_MIN;
	else if (strcmp(what, "unknown_org") == 0 || strcmp(what, "glass_unknown_org") == 0)
		*org = text_of("no-such-organization");
	else if (strcmp(what, "org_null") == 0)
		*org = (struct apikeyd_text){.data = NULL, .len = 4};
	else if (strcmp(what, "org_empty") == 0)
		*org = (struct apikeyd_text){.data = "", .len = 0};
	else if (strcmp(what, "org_endless") == 0)
		org->len = UINT32_MAX;
	else if (strcmp(what, "org_binary") == 0)
		*org = (struct apikeyd_text){.data = binary, .len = sizeof(binary)};
	else
		return false;
	return true;
}

/* Where rows are wrong. */
static bool break_rows(const char *what, struct claim *claim)
{
	struct apikeyd_principal *p = &claim->principal;

	if (strcmp(what, "pages_million") == 0)
		p->page_count = 1000000;
	else if (strcmp(what, "pages_null") == 0)
		p->pages = NULL, p->page_count = 3;
	else if (strcmp(what, "scopes_million") == 0)
		p->scope_count = 1000000;
	else if (strcmp(what, "scopes_null") == 0)
		p->scopes = NULL, p->scope_count = 3;
	else if (strcmp(what, "networks_million") == 0)
		p->narrowed_networks = true, p->network_count = 1000000;
	else if (strcmp(what, "networks_null") == 0)
		p->narrowed_networks = true, p->networks = NULL, p->network_count = 3;
	else if (strcmp(what, "counts_without_flags") == 0)
		p->narrowed_pages = p->narrowed_scopes = false;
	else if (strcmp(what, "page_null") == 0)
		claim->pages[0].data = NULL;
	else if (strcmp(what, "page_endless") == 0)
		claim->pages[0].len = UINT32_MAX;
	else if (strcmp(what, "page_unknown") == 0)
		claim->pages[0] = text_of("no-such-page");
	else if (strcmp(what, "scope_pattern") == 0 || strcmp(what, "glass_pattern") == 0)
		claim->scopes[0] = text_of("*");
	else if (strcmp(what, "scope_unknown") == 0)
		claim->scopes[0] = text_of("no-such:scope");
	else if (strcmp(what, "network_family") == 0)
		p->narrowed_networks = true, p->network_count = 1, claim->networks[0].family = 7;
	else if (strcmp(what, "network_prefix") == 0)
		p->narrowed_networks = true, p->network_count = 1, claim->networks[0].prefix = 129;
	else if (strcmp(what, "glass_member") == 0)
		claim->scopes[0] = text_of("member:write");
	else if (strcmp(what, "glass_apikey") == 0)
		claim->scopes[0] = text_of("apikey:manage");
	else if (strcmp(what, "glass_org") == 0)
		claim->scopes[0] = text_of("org:write");
	else
		return false;
	return true;
}

/* Where times are wrong. */
static bool break_times(const char *what, int64_t now_us, struct apikeyd_principal *p)
{
	if (strcmp(what, "times_reversed") == 0)
		p->not_before_us = now_us + hour_us, p->expires_at_us = now_us - hour_us;
	else if (strcmp(what, "times_least") == 0)
		p->not_before_us = INT64_MIN, p->expires_at_us = INT64_MIN;
	else if (strcmp(what, "glass_far") == 0)
		p->expires_at_us = now_us + 100 * 365 * 24 * hour_us;
	else if (strcmp(what, "glass_day") == 0)
		p->expires_at_us = now_us + 24 * hour_us + 60 * (int64_t)1000000;
	else if (strcmp(what, "glass_endless") == 0)
		p->expires_at_us = 0;
	else if (strcmp(what, "glass_past") == 0)
		p->expires_at_us = now_us - 1;
	else
		return false;
	return true;
}

static struct claim *build(const struct apikeyd_value *values, int64_t now_us)
{
	struct claim *claim = calloc(1, sizeof(*claim));
	struct apikeyd_principal *p = &claim->principal;
	const char *what = values[WHAT].text;

	if (!claim)
		abort();
	p->size = sizeof(*p);
	p->kind = APIKEYD_KIND_ORGANIZATION;
	p->organization = text_of(values[ORG].text);
	p->writes = true;
	p->user_id = (int64_t)values[USER].number;
	if (strcmp(what, "user") == 0)
		p->kind = APIKEYD_KIND_USER;
	if (strncmp(what, "glass", strlen("glass")) == 0) {
		p->kind = APIKEYD_KIND_BREAK_GLASS;
		p->expires_at_us = now_us + hour_us;
		if (strcmp(what, "glass_open") != 0)
			narrow(values, claim);
	}
	if (break_name(what, p) || break_times(what, now_us, p))
		return claim;
	if (strncmp(what, "page", 4) == 0 || strncmp(what, "scope", 5) == 0 || strncmp(what, "network", 7) == 0 ||
	    strcmp(what, "counts_without_flags") == 0)
		narrow(values, claim);
	break_rows(what, claim);
	return claim;
}

/* ---- answering ---- */

struct later {
	struct instance *instance;
	struct claim *claim;
	uint64_t token;
};

static void *complete(void *data)
{
	struct later *later = data;
	struct instance *instance = later->instance;
	struct apikeyd_answer answer = {
		.size = sizeof(answer),
		.code = (enum apikeyd_code)instance->values[CODE].number,
		.principal = later->claim ? &later->claim->principal : NULL,
	};

	instance->host->complete(instance->self, later->token, &answer);
	free(later->claim);
	free(later);
	return NULL;
}

static enum apikeyd_code start_later(struct instance *instance, struct claim *claim, uint64_t token)
{
	struct later *later = malloc(sizeof(*later));

	if (!later)
		abort();
	*later = (struct later){.instance = instance, .claim = claim, .token = token};
	if (instance->thread_count >= THREADS_MAX)
		pthread_join(instance->threads[instance->thread_count % THREADS_MAX], NULL);
	if (pthread_create(&instance->threads[instance->thread_count++ % THREADS_MAX], NULL, complete, later) != 0)
		abort();
	return APIKEYD_PENDING;
}

static enum apikeyd_code start(void *data, const struct apikeyd_request *request, uint64_t token)
{
	struct instance *instance = data;
	const struct apikeyd_host *host = instance->host;
	const char *what = instance->values[WHAT].text;
	struct claim *claim = strcmp(what, "nothing") == 0 ? NULL : build(instance->values, request->now_us);

	if (instance->values[LATER].number)
		return start_later(instance, claim, token);
	if (strcmp(what, "after_other") == 0) {
		/* A principal that is sound, then one that is not: the first must not stand for the second. */
		host->grant(instance->self, request, &claim->principal);
		claim->principal.organization = text_of("no-such-organization");
		claim->principal.kind = (enum apikeyd_kind)99;
	}
	if (strcmp(what, "twice") == 0) {
		host->grant(instance->self, request, &claim->principal);
		claim->principal.organization = text_of("other");
	}
	if (claim)
		host->grant(instance->self, request, &claim->principal);
	free(claim);
	return (enum apikeyd_code)instance->values[CODE].number;
}

/* ---- life ---- */

static int open_line(struct apikeyd_self *self, const struct apikeyd_host *host, const struct apikeyd_value *values,
		     void **ret_instance, char *error, size_t error_size)
{
	struct instance *instance = calloc(1, sizeof(*instance));

	if (!instance) {
		snprintf(error, error_size, "no memory");
		return -ENOMEM;
	}
	instance->self = self;
	instance->host = host;
	instance->values = values;
	*ret_instance = instance;
	return 0;
}

static void close_line(void *data)
{
	struct instance *instance = data;

	for (unsigned i = 0; i < instance->thread_count && i < THREADS_MAX; i++)
		pthread_join(instance->threads[i], NULL);
	free(instance);
}

APIKEYD_EXPORT const struct apikeyd_module apikeyd_module = {
	.abi = APIKEYD_ABI,
	.size = sizeof(struct apikeyd_module),
	.name = "hostile_identify",
	.help = "says whose key it is, and should not be believed",
	.groups = APIKEYD_GROUP_KEY,
	.flags = APIKEYD_IDENTIFIES | APIKEYD_ASYNCHRONOUS,
	.arguments = arguments,
	.open = open_line,
	.start = start,
	.close = close_line,
};
