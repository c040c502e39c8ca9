/* What fits a parameter: the same patterns as the database has, so that most mistakes never reach it. */
#include <string.h>

#include "daemon/admin/table.h"

static bool is_alnum(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool admin_could_be_key(const char *text, size_t len)
{
	size_t run = 0;

	for (size_t i = 0; i < len; i++) {
		run = is_alnum(text[i]) ? run + 1 : 0;
		if (run >= 32)
			return true;
	}
	return false;
}

static bool one_of(const char *text, size_t len, const char *a, const char *b)
{
	return (len == strlen(a) && !memcmp(text, a, len)) || (len == strlen(b) && !memcmp(text, b, len));
}

static bool all_of(const char *text, size_t len, const char *more)
{
	for (size_t i = 0; i < len; i++) {
		char c = text[i];

		if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && (!c || !strchr(more, c)))
			return false;
	}
	return len > 0;
}

bool admin_fits_slug(const char *text, size_t len)
{
	return len <= ADMIN_SLUG_MAX && all_of(text, len, "-") && text[0] != '-' && text[len - 1] != '-';
}

bool admin_fits_word(const char *text, size_t len)
{
	return len <= 32 && all_of(text, len, "_");
}

bool admin_fits_scope(const char *text, size_t len)
{
	const char *colon = memchr(text, ':', len);
	size_t head = colon ? (size_t)(colon - text) : 0;

	return len <= RPC_SCOPE_MAX && colon && all_of(text, head, "_-") && all_of(colon + 1, len - head - 1, "_-");
}

/* One line of UTF-8: no control characters, no overlong forms, no surrogates. */
static bool is_line(const char *text, size_t len)
{
	const unsigned char *p = (const unsigned char *)text, *end = p + len;

	while (p < end) {
		unsigned more = *p >= 0xf0 ? 3 : *p >= 0xe0 ? 2 : *p >= 0x80 ? 1 : 0;
		static const uint32_t least[] = {0x20, 0xa0, 0x800, 0x10000};
		uint32_t c = more ? *p & (0x3fU >> more) : *p;

		if ((*p >= 0x80 && *p < 0xc2) || *p > 0xf4 || (size_t)(end - p) <= more)
			return false;
		for (unsigned i = 1; i <= more; i++) {
			if ((p[i] & 0xc0) != 0x80)
				return false;
			c = c << 6 | (p[i] & 0x3f);
		}
		if (c < least[more] || c == 0x7f || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff) || c == 0x2028 ||
		    c == 0x2029)
			return false;
		p += more + 1;
	}
	return true;
}

bool admin_fits_name(const char *text, size_t len)
{
	return len && len <= ADMIN_NAME_MAX && is_line(text, len) && !admin_could_be_key(text, len);
}

bool admin_fits_email(const char *text, size_t len)
{
	const char *at = memchr(text, '@', len);

	if (len > ADMIN_EMAIL_MAX || !is_line(text, len) || !at || at == text || at == text + len - 1)
		return false;
	return !memchr(text, ' ', len) && !memchr(at + 1, '@', (size_t)(text + len - at - 1));
}

bool admin_fits_network(const char *text, size_t len)
{
	const char *slash = memchr(text, '/', len);
	size_t head = slash ? (size_t)(slash - text) : len;
	struct rpc_addr addr;
	unsigned bits = 0, most;

	if (!rpc_addr_parse(text, head, &addr))
		return false;
	/* An IPv4 network in IPv6 clothes: asked addresses have taken theirs off, so it would never match. */
	if (addr.family == 4 && memchr(text, ':', head))
		return false;
	most = addr.family == 4 ? 32 : 128;
	if (!slash)
		return true;
	if (len - head < 2 || len - head > 4 || (text[head + 1] == '0' && len - head > 2))
		return false;
	for (size_t i = head + 1; i < len; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		bits = bits * 10 + (unsigned)(text[i] - '0');
	}
	for (unsigned bit = bits; bit < most; bit++) {
		if (addr.bytes[bit / 8] & (0x80U >> bit % 8))
			return false;
	}
	return bits <= most;
}

bool admin_fits_key_id(const char *text, size_t len)
{
	keytext_id id;

	return keytext_id_parse(text, len, &id);
}

bool admin_fits_key_kind(const char *text, size_t len)
{
	return one_of(text, len, "user", "organization");
}

bool admin_fits_standing(const char *text, size_t len)
{
	return one_of(text, len, "active", "suspended");
}

bool admin_fits_page_standing(const char *text, size_t len)
{
	return one_of(text, len, "active", "archived");
}

bool admin_fits_after(const char *text, size_t len)
{
	return len && len <= 512 && is_line(text, len);
}

/* Two digits from min to max at *at, and then `end` (NUL: no more than the digits). */
static bool two(const char *text, size_t len, size_t *at, int min, int max, char end, int *ret)
{
	size_t i = *at;

	if (i + 2 + !!end > len || text[i] < '0' || text[i] > '9' || text[i + 1] < '0' || text[i + 1] > '9')
		return false;
	*ret = (text[i] - '0') * 10 + text[i + 1] - '0';
	*at = i + 2 + !!end;
	return *ret >= min && *ret <= max && (!end || text[i + 2] == end);
}

bool admin_fits_time(const char *text, size_t len)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	int century, year, month, day, part;
	size_t at = 0;
	bool leap;

	if (!two(text, len, &at, 0, 99, 0, &century) || !two(text, len, &at, 0, 99, '-', &year) ||
	    !two(text, len, &at, 1, 12, '-', &month) || !two(text, len, &at, 1, 31, 'T', &day) ||
	    !two(text, len, &at, 0, 23, ':', &part) || !two(text, len, &at, 0, 59, ':', &part) ||
	    !two(text, len, &at, 0, 59, 0, &part))
		return false;
	year += century * 100;
	leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
	if (year == 0 || day > days[month - 1] + (month == 2 && leap))
		return false;
	if (at < len && text[at] == '.') {
		size_t digits = 0;

		for (at++; at < len && text[at] >= '0' && text[at] <= '9'; at++)
			digits++;
		if (!digits || digits > 6)
			return false;
	}
	if (at < len && text[at] == 'Z')
		return at + 1 == len;
	if (at >= len || (text[at] != '+' && text[at] != '-'))
		return false;
	at++;
	return two(text, len, &at, 0, 14, ':', &part) && two(text, len, &at, 0, 59, 0, &part) && at == len;
}
