#include "client/apikeyctl/jsonout.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

static void jsonout_free(void *memory)
{
	if (memory)
		explicit_bzero(memory, malloc_usable_size(memory));
	free(memory);
}

void jsonout_init(void)
{
	json_set_alloc_funcs(malloc, jsonout_free);
}

static json_t *jsonout_text(const char *text, size_t len)
{
	json_t *made = json_stringn(text, len);
	char *copy;

	if (made || !(copy = malloc(len + 1)))
		return made;
	memcpy(copy, text, len);
	for (size_t i = 0; i < len; i++) {
		if ((unsigned char)copy[i] >= 0x80)
			copy[i] = '?';
	}
	made = json_stringn(copy, len);
	jsonout_free(copy);
	return made;
}

static json_t *jsonout_of_list(const struct value *value)
{
	json_t *list = json_array();

	for (uint32_t i = 0; list && i < value->count; i++) {
		if (json_array_append_new(list, jsonout_of(&value->items[i])) != 0) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

static json_t *jsonout_of_map(const struct value *value)
{
	json_t *map = json_object();

	for (uint32_t i = 0; map && i < value->count; i++) {
		if (json_object_set_new_nocheck(map, value->fields[i].name, jsonout_of(&value->fields[i].value)) != 0) {
			json_decref(map);
			return NULL;
		}
	}
	return map;
}

json_t *jsonout_of(const struct value *value)
{
	switch (value->type) {
	case VALUE_BOOL:
		return json_boolean(value->truth);
	case VALUE_INT:
		return json_integer(value->integer);
	case VALUE_UINT:
		return json_real((double)value->unsigned_integer);
	case VALUE_FLOAT:
		return json_real(value->real);
	case VALUE_TEXT:
		return jsonout_text(value->text, value->count);
	case VALUE_LIST:
		return jsonout_of_list(value);
	case VALUE_MAP:
		return jsonout_of_map(value);
	case VALUE_NIL:
		break;
	}
	return json_null();
}

static int jsonout_dump(const struct ctl *ctl, json_t *document, size_t flags)
{
	int failed;

	if (!document)
		return ctl_no_memory(ctl);
	failed = json_dumpf(document, ctl->out, flags | JSON_ENCODE_ANY);
	json_decref(document);
	/* main looks at the stream for write errors: they are the same for all output. */
	if (!failed)
		fputc('\n', ctl->out);
	return failed ? CTL_UNAVAILABLE : CTL_DONE;
}

int jsonout_print(const struct ctl *ctl, json_t *document)
{
	return jsonout_dump(ctl, document, JSON_INDENT(2));
}

int jsonout_line(const struct ctl *ctl, json_t *document)
{
	return jsonout_dump(ctl, document, JSON_COMPACT);
}

int jsonout_show(const struct ctl *ctl, const struct value *value)
{
	return jsonout_print(ctl, jsonout_of(value));
}
