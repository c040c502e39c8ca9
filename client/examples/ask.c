/*
 * libapikey's blocking form, each question once:
 *
 *     APIKEY_KEY=… ./ask check SCOPE [PAGE]
 *     APIKEY_KEY=… ./ask check_many SCOPE [PAGE…]
 *     APIKEY_KEY=… ./ask pages SCOPE
 *     APIKEY_KEY=… ./ask whoami
 *     cc -o ask ask.c $(pkg-config --cflags --libs apikey)
 *
 * What else a question may say comes from ASK_ADDR, ASK_ORG, ASK_MIN_REV and ASK_TIMEOUT_MS. Exit code: the verdict.
 */
#include <apikey.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fault; /* what the last call returned */

/* One line: what a service would log. The key itself is in none of it. */
static void print(const struct apikey_result *result)
{
	printf("%s %s", apikey_verdict_word(result->verdict),
	       *result->reason_word ? result->reason_word : apikey_reason_word(result->reason));
	if (*result->key_id)
		printf(" key_id=%s kind=%s", result->key_id, result->kind);
	if (*result->org)
		printf(" org=%s", result->org);
	if (*result->user)
		printf(" user=%s", result->user);
	if (*result->page)
		printf(" page=%s", result->page);
	if (*result->missing_scope)
		printf(" missing_scope=%s", result->missing_scope);
	if (*result->needs_role)
		printf(" needs_role=%s", result->needs_role);
	if (fault)
		printf(" error=%s", apikey_error());
	printf("\n");
}

static enum apikey_verdict check(struct apikey *handle, const char *key, const struct apikey_context *context,
				 char **words)
{
	struct apikey_result result;

	fault = apikey_check(handle, key, words[0], words[1], context, &result);
	print(&result);
	return result.verdict;
}

static enum apikey_verdict check_many(struct apikey *handle, const char *key, const struct apikey_context *context,
				      char **words, size_t count)
{
	struct apikey_pair *pairs = calloc(count, sizeof(*pairs));
	struct apikey_result *results = calloc(count, sizeof(*results));
	enum apikey_verdict all = APIKEY_UNAVAILABLE;

	if (!pairs || !results)
		goto out;
	for (size_t i = 0; i < count; i++)
		pairs[i] = (struct apikey_pair){words[0], words[i + 1]};
	fault = apikey_check_many(handle, key, pairs, count, context, results);
	all = results[0].verdict;
	for (size_t i = 0; i < count; i++) {
		print(&results[i]);
		if (results[i].verdict != APIKEY_ALLOW)
			all = results[i].verdict;
	}
out:
	free(pairs);
	free(results);
	return all;
}

/* All of them, however many answers that takes. */
static enum apikey_verdict pages(struct apikey *handle, const char *key, struct apikey_context *context,
				 const char *scope)
{
	struct apikey_page_list list, before = {0};
	enum apikey_verdict verdict;

	for (;;) {
		fault = apikey_pages(handle, key, scope, context, &list);
		apikey_page_list_free(&before); /* context->after stood in it */
		verdict = list.result.verdict;
		for (size_t i = 0; i < list.count; i++)
			printf("%s\n", list.pages[i]);
		if (verdict != APIKEY_ALLOW || !list.next)
			break;
		context->after = list.next;
		before = list;
	}
	print(&list.result);
	apikey_page_list_free(&list);
	return verdict;
}

static void print_names(const char *what, const struct apikey_narrowing *narrowing)
{
	if (!narrowing->narrowed)
		return;
	printf("only %s:", what);
	for (size_t i = 0; i < narrowing->count; i++)
		printf(" %s", narrowing->names[i]);
	printf("\n");
}

static enum apikey_verdict whoami(struct apikey *handle, const char *key, const struct apikey_context *context)
{
	struct apikey_identity identity;
	enum apikey_verdict verdict;

	fault = apikey_whoami(handle, key, context, &identity);
	verdict = identity.result.verdict;
	print(&identity.result);
	if (identity.access)
		printf("access %s\n", identity.access);
	for (size_t i = 0; i < identity.organization_count; i++)
		printf("organization %s %s\n", identity.organizations[i].place, identity.organizations[i].role);
	for (size_t i = 0; i < identity.page_count; i++)
		printf("page %s %s\n", identity.page_roles[i].place, identity.page_roles[i].role);
	print_names("pages", &identity.pages);
	print_names("scopes", &identity.scopes);
	print_names("networks", &identity.networks);
	apikey_identity_free(&identity);
	return verdict;
}

int main(int argc, char **argv)
{
	struct apikey_context context = APIKEY_CONTEXT_INIT;
	const char *key = getenv("APIKEY_KEY"), *what = argc > 1 ? argv[1] : "";
	const char *min_rev = getenv("ASK_MIN_REV"), *timeout_ms = getenv("ASK_TIMEOUT_MS");
	enum apikey_verdict verdict;
	struct apikey *handle;

	context.addr = getenv("ASK_ADDR");
	context.org = getenv("ASK_ORG");
	context.min_rev = min_rev ? strtoull(min_rev, NULL, 10) : 0;
	context.timeout_ms = timeout_ms ? atoi(timeout_ms) : 0;
	if (apikey_open(NULL, &handle)) {
		fprintf(stderr, "%s\n", apikey_error());
		return 2;
	}
	if (!strcmp(what, "whoami") && argc == 2) {
		verdict = whoami(handle, key, &context);
	} else if (!strcmp(what, "check") && (argc == 3 || argc == 4)) {
		verdict = check(handle, key, &context, argv + 2); /* argv[argc] is NULL: no page */
	} else if (!strcmp(what, "check_many") && argc >= 3) {
		verdict = check_many(handle, key, &context, argv + 2, argc == 3 ? 1 : (size_t)argc - 3);
	} else if (!strcmp(what, "pages") && argc == 3) {
		verdict = pages(handle, key, &context, argv[2]);
	} else {
		fprintf(stderr,
			"usage: APIKEY_KEY=… %s check SCOPE [PAGE] | check_many SCOPE [PAGE…] | pages SCOPE | whoami\n",
			argv[0]);
		apikey_close(handle);
		return 2;
	}
	apikey_close(handle);
	return verdict == APIKEY_ALLOW ? 0 : verdict == APIKEY_DENY ? 1 : 3;
}
