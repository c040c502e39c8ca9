/*
 * The rule, clause by clause. Each clause is a fault that is made in a question which passes without it; each pair of
 * faults says which clause comes first. tests/system compares the whole with the oracle; this says where it breaks.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "daemon/rule.h"

enum { PAGE = 40, OTHER_PAGE = 41, ORGANIZATION = 7, OTHER_ORGANIZATION = 8 };
enum { NOW = 1000000 };

enum {
	SCOPE_READ = 1,	 /* page and organization level */
	SCOPE_WRITE,	 /* page and organization level; brings SCOPE_READ in a key's list */
	SCOPE_PAGE,	 /* page level alone */
	SCOPE_ORG,	 /* organization level alone */
	SCOPE_DELETE,	 /* some hold it only when it is named */
	SCOPE_RARE,	 /* only the highest role holds it, and nobody below but when named */
	SCOPE_NOBODY,	 /* known, held by no role */
	SCOPE_GONE,	 /* not in the table any more */
	SCOPE_FAR = 700, /* held by the roles of its own: the bits beyond the first word */
	SCOPES
};

/* Out of the order of rank, and of place, on purpose. */
enum {
	ROLE_ORG_OWNER = 1,
	ROLE_PAGE_EDITOR,
	ROLE_ORG_VIEWER,
	ROLE_KEY_WRITE,
	ROLE_PAGE_VIEWER,
	ROLE_ORG_BILLING,
	ROLE_PAGE_OWNER,
	ROLE_KEY_READ,
	ROLE_ORG_GONE,
	ROLES
};

static struct rule_catalog catalog;

static void scope(rule_scope scope, const char *name, uint8_t levels, bool reads, rule_scope write_of)
{
	struct rule_scope_row *row = &catalog.scopes[scope];

	*row = (struct rule_scope_row){.known = true, .levels = levels, .reads = reads, .write_of = write_of};
	snprintf(row->name, sizeof(row->name), "%s", name);
}

static void role(rule_role role, uint8_t place, uint16_t rank, const rule_scope *holds)
{
	struct rule_role_row *row = &catalog.roles[role];

	*row = (struct rule_role_row){.place = place, .rank = rank};
	for (; *holds; holds++)
		row->holds[*holds / 64] |= UINT64_C(1) << *holds % 64;
}

static void when_named(rule_role role, rule_scope scope)
{
	struct rule_role_row *row = &catalog.roles[role];

	row->holds[scope / 64] |= UINT64_C(1) << scope % 64;
	row->when_named[scope / 64] |= UINT64_C(1) << scope % 64;
}

#define HOLDS(...) ((const rule_scope[]){__VA_ARGS__, 0})

static int set_up(void **state)
{
	enum { BOTH = RULE_LEVEL_PAGE | RULE_LEVEL_ORGANIZATION };

	(void)state;
	memset(&catalog, 0, sizeof(catalog));
	catalog.scope_count = SCOPES;
	catalog.role_count = ROLES;
	scope(SCOPE_READ, "thing:read", BOTH, true, SCOPE_WRITE);
	scope(SCOPE_WRITE, "thing:write", BOTH, false, 0);
	scope(SCOPE_PAGE, "page:edit", RULE_LEVEL_PAGE, false, 0);
	scope(SCOPE_ORG, "billing:pay", RULE_LEVEL_ORGANIZATION, false, 0);
	scope(SCOPE_DELETE, "thing:delete", BOTH, false, 0);
	scope(SCOPE_RARE, "thing:rare", BOTH, false, 0);
	scope(SCOPE_NOBODY, "thing:nobody", BOTH, false, 0);
	scope(SCOPE_GONE, "thing:gone", BOTH, false, 0);
	catalog.scopes[SCOPE_GONE].known = false;
	scope(SCOPE_FAR, "thing:far", BOTH, false, 0);

	role(ROLE_ORG_BILLING, RULE_ROLE_ORGANIZATION, 5, HOLDS(SCOPE_ORG));
	role(ROLE_ORG_VIEWER, RULE_ROLE_ORGANIZATION, 10, HOLDS(SCOPE_READ, SCOPE_GONE));
	role(ROLE_ORG_OWNER, RULE_ROLE_ORGANIZATION, 40,
	     HOLDS(SCOPE_READ, SCOPE_WRITE, SCOPE_PAGE, SCOPE_ORG, SCOPE_DELETE, SCOPE_RARE, SCOPE_FAR, SCOPE_GONE));
	role(ROLE_PAGE_VIEWER, RULE_ROLE_PAGE, 10, HOLDS(SCOPE_READ));
	role(ROLE_PAGE_EDITOR, RULE_ROLE_PAGE, 20, HOLDS(SCOPE_READ, SCOPE_WRITE, SCOPE_PAGE));
	role(ROLE_PAGE_OWNER, RULE_ROLE_PAGE, 40,
	     HOLDS(SCOPE_READ, SCOPE_WRITE, SCOPE_PAGE, SCOPE_DELETE, SCOPE_RARE, SCOPE_FAR));
	role(ROLE_KEY_READ, RULE_ROLE_KEY, 10, HOLDS(SCOPE_READ));
	role(ROLE_KEY_WRITE, RULE_ROLE_KEY, 20, HOLDS(SCOPE_READ, SCOPE_WRITE, SCOPE_PAGE, SCOPE_ORG));
	when_named(ROLE_KEY_WRITE, SCOPE_DELETE);
	when_named(ROLE_PAGE_EDITOR, SCOPE_RARE);
	/* A role that left the table: what its bits say does not count. */
	role(ROLE_ORG_GONE, 0, 1, HOLDS(SCOPE_READ, SCOPE_WRITE));
	return 0;
}

/* ---- questions ---- */

struct question {
	struct rule_who who;
	struct rule_where where;
	struct rpc_addr addr;
	int64_t now;
	struct rule_missing missing;
};

enum form { USER_PAGE, USER_ORGANIZATION, ORGANIZATION_PAGE, ORGANIZATION_ALONE, FORMS };

static const rule_handle listed_pages[] = {3, 17, PAGE, 90};
static const rule_handle unlisted_pages[] = {3, 17, OTHER_PAGE, 90};
static const struct rule_network one_network[] = {{4, 8, {10}}};

/* A question that passes. */
static struct question good(enum form form)
{
	bool user = form == USER_PAGE || form == USER_ORGANIZATION,
	     page = form == USER_PAGE || form == ORGANIZATION_PAGE;
	struct question q = {
		.who = {.kind = user ? KEY_KIND_USER : KEY_KIND_ORGANIZATION,
			.flags = RULE_LIVE,
			.not_before = INT64_MIN,
			.expires_at = INT64_MAX,
			.retired_at = INT64_MAX},
		.where = {.scope = SCOPE_WRITE, .page_asked = page},
		.addr = {4, {10, 1, 2, 3}},
		.now = NOW,
	};

	if (user) {
		q.where.organization_role = ROLE_ORG_OWNER;
		q.where.organization_only = ORGANIZATION;
	} else {
		q.who.access = ROLE_KEY_WRITE;
		q.who.organization = ORGANIZATION;
	}
	if (page) {
		q.where.page = PAGE;
		q.where.page_organization = ORGANIZATION;
	}
	return q;
}

static enum reason ask(struct question *q)
{
	enum reason reason = rule_account(&q->who, q->now, &q->addr);

	memset(&q->missing, 0xff, sizeof(q->missing));
	if (reason == REASON_OK)
		reason = rule_place(&catalog, &q->who, &q->where);
	if (reason == REASON_OK)
		reason = rule_right(&catalog, &q->who, &q->where, &q->missing);
	return reason;
}

static void test_good(void **state)
{
	(void)state;
	for (enum form form = 0; form < FORMS; form++) {
		struct question q = good(form);

		assert_int_equal(ask(&q), REASON_OK);
		assert_int_equal(q.missing.scope, 0);
		assert_int_equal(q.missing.needs, 0);
	}
}

/* Zeroed memory is DENY, at each of the three points. */
static void test_zero(void **state)
{
	struct rule_who who = {0};
	struct rule_where where = {0};
	struct rpc_addr addr = {0};
	struct rule_missing missing = {1, 1};

	(void)state;
	assert_int_equal(rule_account(&who, 0, &addr), REASON_POLICY);
	assert_int_equal(rule_place(&catalog, &who, &where), REASON_UNKNOWN_SCOPE);
	assert_int_equal(rule_right(&catalog, &who, &where, &missing), REASON_SCOPE_NOT_GRANTED);
	assert_int_equal(rule_organization(&who, &where), 0);
	where.page_asked = true;
	assert_int_equal(rule_place(&catalog, &who, &where), REASON_UNKNOWN_SCOPE);
	who.kind = KEY_KIND_ORGANIZATION;
	assert_int_equal(rule_right(&catalog, &who, &where, &missing), REASON_SCOPE_NOT_GRANTED);
}

/* ---- faults, in the order of the clauses ---- */

#define FAULT(name, ...)                                                                                               \
	static void fault_##name(struct question *q)                                                                   \
	{                                                                                                              \
		__VA_ARGS__;                                                                                           \
	}

FAULT(not_live, q->who.flags &= (uint16_t)~RULE_LIVE)
FAULT(revoked, q->who.flags |= RULE_REVOKED)
FAULT(retired, q->who.retired_at = q->now)
FAULT(disabled, q->who.flags |= RULE_DISABLED)
FAULT(not_yet_valid, q->who.not_before = q->now + 1)
FAULT(expired, q->who.expires_at = q->now)
FAULT(user_suspended, q->who.flags |= RULE_USER_SUSPENDED)
FAULT(network, q->who.flags |= RULE_NARROWED_NETWORKS)
FAULT(no_scope, q->where.scope = 0)
FAULT(scope_gone, q->where.scope = SCOPE_GONE)
FAULT(scope_level, q->where.scope = q->where.page_asked ? SCOPE_ORG : SCOPE_PAGE)
FAULT(no_page, q->where.page = q->where.page_organization = 0)
FAULT(page_of_other, q->where.page_organization = OTHER_ORGANIZATION; q->where.organization_asked = true;
      q->where.organization_named = ORGANIZATION)
FAULT(other_named, q->where.organization_asked = true; q->where.organization_named = OTHER_ORGANIZATION)
FAULT(unknown_named, q->where.organization_asked = true; q->where.organization_named = 0)
FAULT(foreign_page, q->where.page_organization = OTHER_ORGANIZATION)
FAULT(no_roles, q->where.page_role = q->where.organization_role = 0)
FAULT(none_only, q->where.organization_only = 0)
FAULT(org_suspended, q->where.organization_suspended = true)
FAULT(archived, q->where.page_archived = true)
FAULT(unlisted, q->who.flags |= RULE_NARROWED_PAGES; q->who.pages = unlisted_pages; q->who.page_count = 4)
FAULT(no_pages, q->who.flags |= RULE_NARROWED_PAGES)
FAULT(weak, q->where.page_role = ROLE_PAGE_VIEWER; q->who.access = ROLE_KEY_READ;
      if (!q->where.page_asked) q->where.organization_role = ROLE_ORG_VIEWER)
FAULT(no_scopes, q->who.flags |= RULE_NARROWED_SCOPES)

enum { AT_PAGE = 1, AT_ORGANIZATION = 2, OF_USER = 4, OF_ORGANIZATION = 8, ALL = 15 };

static const struct fault {
	const char *name;
	void (*make)(struct question *q);
	enum reason reason;
	unsigned forms;
} faults[] = {
	{"not live", fault_not_live, REASON_POLICY, ALL},
	{"revoked", fault_revoked, REASON_REVOKED, ALL},
	{"retired", fault_retired, REASON_RETIRED, ALL},
	{"disabled", fault_disabled, REASON_DISABLED, ALL},
	{"not yet valid", fault_not_yet_valid, REASON_NOT_YET_VALID, ALL},
	{"expired", fault_expired, REASON_EXPIRED, ALL},
	{"user suspended", fault_user_suspended, REASON_USER_SUSPENDED, OF_USER | AT_PAGE | AT_ORGANIZATION},
	{"network", fault_network, REASON_NETWORK, ALL},
	{"no such scope", fault_no_scope, REASON_UNKNOWN_SCOPE, ALL},
	{"scope gone", fault_scope_gone, REASON_UNKNOWN_SCOPE, ALL},
	{"scope of the other level", fault_scope_level, REASON_UNKNOWN_SCOPE, ALL},
	{"no such page", fault_no_page, REASON_UNKNOWN_PAGE, OF_USER | OF_ORGANIZATION | AT_PAGE},
	{"page of another than named", fault_page_of_other, REASON_UNKNOWN_PAGE, OF_USER | OF_ORGANIZATION | AT_PAGE},
	{"page, other named", fault_other_named, REASON_UNKNOWN_PAGE, OF_USER | OF_ORGANIZATION | AT_PAGE},
	{"page, unknown named", fault_unknown_named, REASON_UNKNOWN_PAGE, OF_USER | OF_ORGANIZATION | AT_PAGE},
	{"page of another", fault_foreign_page, REASON_UNKNOWN_PAGE, OF_ORGANIZATION | AT_PAGE},
	{"page without a role", fault_no_roles, REASON_UNKNOWN_PAGE, OF_USER | AT_PAGE},
	{"other named", fault_other_named, REASON_NOT_MEMBER, OF_ORGANIZATION | AT_ORGANIZATION},
	{"unknown named", fault_unknown_named, REASON_NOT_MEMBER, OF_USER | OF_ORGANIZATION | AT_ORGANIZATION},
	{"no organization", fault_none_only, REASON_NOT_MEMBER, OF_USER | AT_ORGANIZATION},
	{"no member", fault_no_roles, REASON_NOT_MEMBER, OF_USER | AT_ORGANIZATION},
	{"organization suspended", fault_org_suspended, REASON_ORG_SUSPENDED, ALL},
	{"page archived", fault_archived, REASON_PAGE_ARCHIVED, OF_USER | OF_ORGANIZATION | AT_PAGE},
	{"page not listed", fault_unlisted, REASON_PAGE_NOT_GRANTED, ALL},
	{"no page listed", fault_no_pages, REASON_PAGE_NOT_GRANTED, ALL},
	{"weak role", fault_weak, REASON_SCOPE_NOT_GRANTED, ALL},
	{"no scope listed", fault_no_scopes, REASON_SCOPE_NOT_GRANTED, ALL},
};

enum { FAULTS = sizeof(faults) / sizeof(*faults) };

static bool applies(const struct fault *fault, enum form form)
{
	bool user = form == USER_PAGE || form == USER_ORGANIZATION,
	     page = form == USER_PAGE || form == ORGANIZATION_PAGE;

	return fault->forms & (user ? OF_USER : OF_ORGANIZATION) && fault->forms & (page ? AT_PAGE : AT_ORGANIZATION);
}

/* Other kinds are not for this rule, whatever else is filled in. */
static void test_other_kinds(void **state)
{
	(void)state;
	for (unsigned form = 0; form < FORMS; form++) {
		for (unsigned kind = KEY_KIND_BREAK_GLASS; kind < 6; kind++) {
			struct question q = good((enum form)form);

			assert_int_equal(rule_account(&q.who, q.now, &q.addr), REASON_OK);
			q.who.kind = (enum key_kind)kind;
			assert_int_equal(rule_account(&q.who, q.now, &q.addr), REASON_POLICY);
		}
	}
}

static void test_each_fault(void **state)
{
	(void)state;
	for (unsigned i = 0; i < FAULTS; i++) {
		for (enum form form = 0; form < FORMS; form++) {
			struct question q = good(form);

			if (!applies(&faults[i], form))
				continue;
			faults[i].make(&q);
			if (ask(&q) != faults[i].reason)
				fail_msg("form %d, %s: %s", form, faults[i].name, reason_word(ask(&q)));
		}
	}
}

/* A user's standing is no fault of an organization key, nor a page's of a question without one. */
static void test_faults_of_others(void **state)
{
	struct question q = good(ORGANIZATION_PAGE);

	(void)state;
	fault_user_suspended(&q);
	assert_int_equal(ask(&q), REASON_OK);
	q = good(USER_ORGANIZATION);
	fault_archived(&q);
	assert_int_equal(ask(&q), REASON_OK);
}

/* A key with a rate of its own passes only where somebody charged it. */
static void test_rate(void **state)
{
	struct rule_who who = {.flags = RULE_LIVE};

	(void)state;
	assert_int_equal(rule_rate(&who, false), REASON_OK);
	assert_int_equal(rule_rate(&who, true), REASON_OK);
	who.flags |= RULE_NARROWED_RATE;
	assert_int_equal(rule_rate(&who, false), REASON_POLICY);
	assert_int_equal(rule_rate(&who, true), REASON_OK);
}

/* Of two faults, the clause that comes first answers. */
static void test_order(void **state)
{
	unsigned pairs = 0;

	(void)state;
	for (unsigned first = 0; first < FAULTS; first++) {
		for (unsigned second = first + 1; second < FAULTS; second++) {
			for (enum form form = 0; form < FORMS; form++) {
				struct question q = good(form);

				if (!applies(&faults[first], form) || !applies(&faults[second], form))
					continue;
				faults[second].make(&q);
				faults[first].make(&q);
				if (ask(&q) != faults[first].reason)
					fail_msg("form %d, %s before %s: %s", form, faults[first].name,
						 faults[second].name, reason_word(ask(&q)));
				pairs++;
			}
		}
	}
	assert_true(pairs > 700);
}

/* ---- time ---- */

static void test_times(void **state)
{
	static const struct {
		int64_t not_before, expires_at, retired_at, now;
		enum reason reason;
	} cases[] = {
		{NOW, INT64_MAX, INT64_MAX, NOW, REASON_OK},
		{NOW, INT64_MAX, INT64_MAX, NOW - 1, REASON_NOT_YET_VALID},
		{INT64_MIN, NOW, INT64_MAX, NOW - 1, REASON_OK},
		{INT64_MIN, NOW, INT64_MAX, NOW, REASON_EXPIRED},
		{INT64_MIN, INT64_MAX, NOW, NOW - 1, REASON_OK},
		{INT64_MIN, INT64_MAX, NOW, NOW, REASON_RETIRED},
		{INT64_MIN, INT64_MAX, NOW, NOW + 1, REASON_RETIRED},
		{INT64_MIN, INT64_MAX, INT64_MAX, INT64_MIN, REASON_OK},
		{INT64_MIN, INT64_MAX, INT64_MAX, INT64_MAX - 1, REASON_OK},
		{NOW, NOW, INT64_MAX, NOW, REASON_EXPIRED}, /* never valid */
		{NOW, NOW, INT64_MAX, NOW - 1, REASON_NOT_YET_VALID},
		{NOW + 1, NOW - 1, INT64_MAX, NOW, REASON_NOT_YET_VALID},
		{-5, -4, INT64_MAX, -5, REASON_OK}, /* before 1970 */
		{-5, -4, INT64_MAX, -6, REASON_NOT_YET_VALID},
		{-5, -4, INT64_MAX, -4, REASON_EXPIRED},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct question q = good(USER_PAGE);

		q.who.not_before = cases[i].not_before;
		q.who.expires_at = cases[i].expires_at;
		q.who.retired_at = cases[i].retired_at;
		q.now = cases[i].now;
		if (ask(&q) != cases[i].reason)
			fail_msg("case %u: %s", i, reason_word(ask(&q)));
	}
}

/* ---- networks ---- */

static enum reason from(const struct rule_network *networks, uint32_t count, struct rpc_addr addr)
{
	struct question q = good(USER_PAGE);

	q.who.flags |= RULE_NARROWED_NETWORKS;
	q.who.networks = networks;
	q.who.network_count = count;
	q.addr = addr;
	return ask(&q);
}

/* Every prefix length of both families: the bit before its end matters, the one behind does not. */
static void test_prefixes(void **state)
{
	(void)state;
	for (unsigned family = 4; family <= 6; family += 2) {
		unsigned width = family == 4 ? 32 : 128;

		for (unsigned prefix = 0; prefix <= width; prefix++) {
			struct rule_network network = {(uint8_t)family, (uint8_t)prefix, {0}};
			struct rpc_addr addr = {(uint8_t)family, {0}};

			for (unsigned i = 0; i < width / 8; i++)
				addr.bytes[i] = network.bytes[i] = (uint8_t)(0x5a + 37 * i);
			assert_int_equal(from(&network, 1, addr), REASON_OK);
			for (unsigned bit = 0; bit < width; bit++) {
				struct rpc_addr other = addr;

				other.bytes[bit / 8] ^= (uint8_t)(0x80 >> bit % 8);
				if (from(&network, 1, other) != (bit < prefix ? REASON_NETWORK : REASON_OK))
					fail_msg("IPv%u /%u, bit %u", family, prefix, bit);
			}
		}
	}
}

static void test_networks(void **state)
{
	static const struct rule_network several[] = {
		{4, 31, {192, 0, 2, 8}}, {6, 33, {0x20, 0x01, 0x0d, 0xb8, 0x80}}, {4, 0, {0}}};
	static const struct rule_network too_long[] = {{4, 33, {10, 1, 2, 3}}, {4, 255, {10, 1, 2, 3}}, {6, 129, {0}}};
	static const struct rule_network strange[] = {{0, 0, {0}}, {5, 0, {0}}};
	struct rpc_addr v6 = {6, {0x20, 0x01, 0x0d, 0xb8, 0xff}};

	(void)state;
	assert_int_equal(from(several, 1, (struct rpc_addr){4, {192, 0, 2, 9}}), REASON_OK);
	assert_int_equal(from(several, 1, (struct rpc_addr){4, {192, 0, 2, 10}}), REASON_NETWORK);
	assert_int_equal(from(several, 2, v6), REASON_OK);
	assert_int_equal(from(several, 1, v6), REASON_NETWORK);
	v6.bytes[4] = 0x7f;
	assert_int_equal(from(several, 2, v6), REASON_NETWORK);
	/* All of IPv4 is nothing of IPv6, and the same bytes of the other family are another address. */
	assert_int_equal(from(several, 3, (struct rpc_addr){4, {1, 2, 3, 4}}), REASON_OK);
	assert_int_equal(from(several, 3, v6), REASON_NETWORK);
	assert_int_equal(from(several, 3, (struct rpc_addr){6, {192, 0, 2, 9}}), REASON_NETWORK);
	/* Without an address, or without a network, nobody passes. */
	assert_int_equal(from(several, 3, (struct rpc_addr){0}), REASON_NETWORK);
	assert_int_equal(from(strange, 2, (struct rpc_addr){0}), REASON_NETWORK);
	assert_int_equal(from(NULL, 0, (struct rpc_addr){4, {10, 1, 2, 3}}), REASON_NETWORK);
	/* What no store should hold is nobody's network, and nothing is read beyond it. */
	assert_int_equal(from(too_long, 3, (struct rpc_addr){4, {10, 1, 2, 3}}), REASON_NETWORK);
	assert_int_equal(from(too_long, 3, (struct rpc_addr){6, {0}}), REASON_NETWORK);
	assert_int_equal(from(strange, 2, (struct rpc_addr){4, {10, 1, 2, 3}}), REASON_NETWORK);

	/* Networks without the flag narrow nothing. */
	struct question q = good(USER_PAGE);

	q.who.networks = one_network;
	q.who.network_count = 1;
	q.addr = (struct rpc_addr){4, {11}};
	assert_int_equal(ask(&q), REASON_OK);
	q.who.flags |= RULE_NARROWED_NETWORKS;
	assert_int_equal(ask(&q), REASON_NETWORK);
}

/* ---- the organization in question ---- */

static void test_organization(void **state)
{
	struct question q = good(USER_ORGANIZATION);

	(void)state;
	assert_int_equal(rule_organization(&q.who, &q.where), ORGANIZATION);
	q.where.organization_asked = true;
	q.where.organization_named = OTHER_ORGANIZATION;
	assert_int_equal(rule_organization(&q.who, &q.where), OTHER_ORGANIZATION);
	q.where.organization_named = 0;
	assert_int_equal(rule_organization(&q.who, &q.where), 0);

	q = good(ORGANIZATION_ALONE);
	q.where.organization_asked = true;
	q.where.organization_named = OTHER_ORGANIZATION;
	assert_int_equal(rule_organization(&q.who, &q.where), ORGANIZATION);

	q = good(ORGANIZATION_PAGE);
	q.where.page_organization = OTHER_ORGANIZATION;
	q.where.organization_asked = true;
	q.where.organization_named = ORGANIZATION;
	assert_int_equal(rule_organization(&q.who, &q.where), OTHER_ORGANIZATION);
	q.where.page = q.where.page_organization = 0;
	assert_int_equal(rule_organization(&q.who, &q.where), 0);
}

/* Naming the organization that it is harms nobody. */
static void test_named_right(void **state)
{
	(void)state;
	for (enum form form = 0; form < FORMS; form++) {
		struct question q = good(form);

		q.where.organization_asked = true;
		q.where.organization_named = ORGANIZATION;
		q.where.organization_only = 0;
		assert_int_equal(ask(&q), REASON_OK);
	}
}

/* ---- pages ---- */

static void test_listed_pages(void **state)
{
	struct question q = good(USER_PAGE);

	(void)state;
	q.who.flags |= RULE_NARROWED_PAGES;
	q.who.pages = listed_pages;
	for (unsigned count = 0; count <= 4; count++) {
		q.who.page_count = count;
		assert_int_equal(ask(&q), count > 2 ? REASON_OK : REASON_PAGE_NOT_GRANTED);
	}
	for (unsigned i = 0; i < 4; i++) {
		q.where.page = listed_pages[i];
		assert_int_equal(ask(&q), REASON_OK);
		q.where.page++;
		assert_int_equal(ask(&q), REASON_PAGE_NOT_GRANTED);
		q.where.page -= 2;
		assert_int_equal(ask(&q), REASON_PAGE_NOT_GRANTED);
	}
	/* A list without the flag narrows nothing. */
	q.who.flags = RULE_LIVE;
	assert_int_equal(ask(&q), REASON_OK);
}

static void test_archived_reads(void **state)
{
	struct question q = good(USER_PAGE);

	(void)state;
	q.where.page_archived = true;
	assert_int_equal(ask(&q), REASON_PAGE_ARCHIVED);
	q.where.scope = SCOPE_READ;
	assert_int_equal(ask(&q), REASON_OK);
}

/* One role is enough, on the page or in its organization. */
static void test_membership(void **state)
{
	struct question q = good(USER_PAGE);

	(void)state;
	q.where.organization_role = 0;
	assert_int_equal(ask(&q), REASON_UNKNOWN_PAGE);
	q.where.page_role = ROLE_PAGE_EDITOR;
	assert_int_equal(ask(&q), REASON_OK);
	/* A role on some page is none in the organization. */
	q = good(USER_ORGANIZATION);
	q.where.organization_role = 0;
	q.where.page_role = ROLE_PAGE_OWNER;
	assert_int_equal(ask(&q), REASON_NOT_MEMBER);
}

/* ---- rights ---- */

static void test_rights(void **state)
{
	/* clang-format off */
	/* clang-format off */
	/* clang-format off */
	static const struct {
		const char *name;
		enum form form;
		rule_role page, organization, access;
		rule_scope scope;
		int listed; /* -1: not narrowed */
		rule_scope scopes[3];
		enum reason reason;
		rule_role needs;
	} cases[] = {
		/* A role on the page overrides the organization's, either way. */
		{"page up", USER_PAGE, ROLE_PAGE_OWNER, ROLE_ORG_VIEWER, 0, SCOPE_DELETE, -1, {0}, REASON_OK, 0},
		{"page down", USER_PAGE, ROLE_PAGE_VIEWER, ROLE_ORG_OWNER, 0, SCOPE_WRITE, -1, {0},
		 REASON_SCOPE_NOT_GRANTED, ROLE_PAGE_EDITOR},
		{"no page role", USER_PAGE, 0, ROLE_ORG_OWNER, 0, SCOPE_WRITE, -1, {0}, REASON_OK, 0},
		{"page role, no page", USER_ORGANIZATION, ROLE_PAGE_OWNER, ROLE_ORG_VIEWER, 0, SCOPE_WRITE, -1, {0},
		 REASON_SCOPE_NOT_GRANTED, ROLE_ORG_OWNER},
		{"access, not the roles", ORGANIZATION_PAGE, ROLE_PAGE_OWNER, ROLE_ORG_OWNER, ROLE_KEY_READ,
		 SCOPE_WRITE, -1, {0}, REASON_SCOPE_NOT_GRANTED, ROLE_KEY_WRITE},
		{"no access", ORGANIZATION_PAGE, 0, ROLE_ORG_OWNER, 0, SCOPE_READ, -1, {0}, REASON_SCOPE_NOT_GRANTED,
		 255},

		/* The smallest role that would do, of the place of the role that does not. */
		{"smallest", USER_ORGANIZATION, 0, ROLE_ORG_VIEWER, 0, SCOPE_ORG, -1, {0}, REASON_SCOPE_NOT_GRANTED,
		 ROLE_ORG_BILLING},
		{"no role holds it", USER_ORGANIZATION, 0, ROLE_ORG_OWNER, 0, SCOPE_NOBODY, -1, {0},
		 REASON_SCOPE_NOT_GRANTED, 0},
		{"not by name alone", USER_PAGE, ROLE_PAGE_VIEWER, 0, 0, SCOPE_RARE, -1, {0},
		 REASON_SCOPE_NOT_GRANTED, ROLE_PAGE_OWNER},
		{"no key holds it always", ORGANIZATION_PAGE, 0, 0, ROLE_KEY_READ, SCOPE_DELETE, -1, {0},
		 REASON_SCOPE_NOT_GRANTED, 0},
		{"role gone", USER_ORGANIZATION, 0, ROLE_ORG_GONE, 0, SCOPE_READ, -1, {0}, REASON_SCOPE_NOT_GRANTED,
		 255},
		{"far bit", USER_ORGANIZATION, 0, ROLE_ORG_OWNER, 0, SCOPE_FAR, -1, {0}, REASON_OK, 0},
		{"far bit, not held", USER_ORGANIZATION, 0, ROLE_ORG_VIEWER, 0, SCOPE_FAR, -1, {0},
		 REASON_SCOPE_NOT_GRANTED, ROLE_ORG_OWNER},

		/* Held only when named. */
		{"unnamed", ORGANIZATION_PAGE, 0, 0, ROLE_KEY_WRITE, SCOPE_DELETE, -1, {0}, REASON_SCOPE_NOT_GRANTED,
		 0},
		{"others named", ORGANIZATION_PAGE, 0, 0, ROLE_KEY_WRITE, SCOPE_DELETE, 2, {SCOPE_READ, SCOPE_WRITE},
		 REASON_SCOPE_NOT_GRANTED, 0},
		{"named", ORGANIZATION_PAGE, 0, 0, ROLE_KEY_WRITE, SCOPE_DELETE, 2, {SCOPE_WRITE, SCOPE_DELETE},
		 REASON_OK, 0},
		{"named, not held", ORGANIZATION_PAGE, 0, 0, ROLE_KEY_READ, SCOPE_DELETE, 1, {SCOPE_DELETE},
		 REASON_SCOPE_NOT_GRANTED, 0},
		{"named by a page role", USER_PAGE, ROLE_PAGE_EDITOR, 0, 0, SCOPE_RARE, 1, {SCOPE_RARE}, REASON_OK, 0},

		/* The key's own list: it takes away, and never gives. */
		{"listed", USER_PAGE, 0, ROLE_ORG_OWNER, 0, SCOPE_WRITE, 3, {SCOPE_READ, SCOPE_WRITE, SCOPE_FAR},
		 REASON_OK, 0},
		{"last of the list", USER_PAGE, 0, ROLE_ORG_OWNER, 0, SCOPE_FAR, 3, {SCOPE_READ, SCOPE_WRITE,
		 SCOPE_FAR}, REASON_OK, 0},
		{"not listed", USER_PAGE, 0, ROLE_ORG_OWNER, 0, SCOPE_DELETE, 3, {SCOPE_READ, SCOPE_WRITE, SCOPE_FAR},
		 REASON_SCOPE_NOT_GRANTED, 0},
		{"empty list", USER_PAGE, 0, ROLE_ORG_OWNER, 0, SCOPE_READ, 0, {0}, REASON_SCOPE_NOT_GRANTED, 0},
		{"listed, not held", USER_PAGE, 0, ROLE_ORG_VIEWER, 0, SCOPE_WRITE, 1, {SCOPE_WRITE},
		 REASON_SCOPE_NOT_GRANTED, ROLE_ORG_OWNER},
		{"write brings read", USER_PAGE, 0, ROLE_ORG_OWNER, 0, SCOPE_READ, 1, {SCOPE_WRITE}, REASON_OK, 0},
		{"read brings no write", USER_PAGE, 0, ROLE_ORG_OWNER, 0, SCOPE_WRITE, 1, {SCOPE_READ},
		 REASON_SCOPE_NOT_GRANTED, 0},
		{"write brings its own read", USER_PAGE, 0, ROLE_ORG_OWNER, 0, SCOPE_DELETE, 1, {SCOPE_WRITE},
		 REASON_SCOPE_NOT_GRANTED, 0},
		{"write brings no role", USER_PAGE, ROLE_PAGE_VIEWER, 0, 0, SCOPE_WRITE, 1, {SCOPE_WRITE},
		 REASON_SCOPE_NOT_GRANTED, ROLE_PAGE_EDITOR},
		{"read by a reader who lists write", USER_PAGE, ROLE_PAGE_VIEWER, 0, 0, SCOPE_READ, 1, {SCOPE_WRITE},
		 REASON_OK, 0},
	};
	/* clang-format on */

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct question q = good(cases[i].form);
		rule_role needs = cases[i].needs == 255 ? 0 : cases[i].needs;

		q.where.page_role = cases[i].page;
		q.where.organization_role = cases[i].organization;
		q.who.access = cases[i].access;
		q.where.scope = cases[i].scope;
		if (cases[i].listed >= 0) {
			q.who.flags |= RULE_NARROWED_SCOPES;
			q.who.scopes = cases[i].scopes;
			q.who.scope_count = (uint32_t)cases[i].listed;
		}
		if (ask(&q) != cases[i].reason)
			fail_msg("%s: %s", cases[i].name, reason_word(ask(&q)));
		if (q.missing.scope != (cases[i].reason == REASON_OK ? 0 : cases[i].scope))
			fail_msg("%s: missing scope %u", cases[i].name, q.missing.scope);
		/* 255: what a holder without a role needs is not said. */
		if (cases[i].needs != 255 && q.missing.needs != needs)
			fail_msg("%s: needs role %u", cases[i].name, q.missing.needs);
	}
}

/* A list without the flag neither narrows nor names. */
static void test_list_without_flag(void **state)
{
	static const rule_scope named[] = {SCOPE_DELETE};
	struct question q = good(ORGANIZATION_PAGE);

	(void)state;
	q.who.scopes = named;
	q.who.scope_count = 1;
	assert_int_equal(ask(&q), REASON_OK);
	q.where.scope = SCOPE_DELETE;
	assert_int_equal(ask(&q), REASON_SCOPE_NOT_GRANTED);
}

/* By which X:write that is not there, index 0, would bring X:read. */
static void test_no_write_of(void **state)
{
	static const rule_scope zero[] = {0, SCOPE_FAR};
	struct question q = good(USER_PAGE);

	(void)state;
	catalog.scopes[SCOPE_READ].write_of = 0;
	q.where.scope = SCOPE_READ;
	q.who.flags |= RULE_NARROWED_SCOPES;
	q.who.scopes = zero;
	q.who.scope_count = 2;
	assert_int_equal(ask(&q), REASON_SCOPE_NOT_GRANTED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_good, set_up),
		cmocka_unit_test_setup(test_zero, set_up),
		cmocka_unit_test_setup(test_other_kinds, set_up),
		cmocka_unit_test_setup(test_each_fault, set_up),
		cmocka_unit_test_setup(test_faults_of_others, set_up),
		cmocka_unit_test(test_rate),
		cmocka_unit_test_setup(test_order, set_up),
		cmocka_unit_test_setup(test_times, set_up),
		cmocka_unit_test_setup(test_prefixes, set_up),
		cmocka_unit_test_setup(test_networks, set_up),
		cmocka_unit_test_setup(test_organization, set_up),
		cmocka_unit_test_setup(test_named_right, set_up),
		cmocka_unit_test_setup(test_listed_pages, set_up),
		cmocka_unit_test_setup(test_archived_reads, set_up),
		cmocka_unit_test_setup(test_membership, set_up),
		cmocka_unit_test_setup(test_rights, set_up),
		cmocka_unit_test_setup(test_list_without_flag, set_up),
		cmocka_unit_test_setup(test_no_write_of, set_up),
	};

	return cmocka_run_group_tests_name("rule", tests, NULL, NULL);
}
