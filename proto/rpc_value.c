#include "proto/rpc_internal.h"

#include <errno.h>
#include <string.h>

static int text_from(struct arena *arena, const char *text, uint32_t len, struct value *ret)
{
	return value_text(arena, ret, text, len) ? 0 : -ENOMEM;
}

static int list_from(struct arena *arena, const msgpack_object_array *array, uint32_t fields_max, struct value *ret)
{
	struct value *items;

	value_list(ret);
	if (array->size == 0)
		return 0;
	items = arena_alloc(arena, value_capacity(array->size) * sizeof(*items));
	if (!items)
		return -ENOMEM;
	ret->items = items;
	ret->count = array->size;
	for (uint32_t i = 0; i < array->size; i++) {
		int r = rpc_value_from(arena, &array->ptr[i], fields_max, &items[i]);

		if (r)
			return r;
	}
	return 0;
}

static int map_from(struct arena *arena, const msgpack_object_map *map, uint32_t fields_max, struct value *ret)
{
	struct value_field *fields;

	value_map(ret);
	if (map->size == 0)
		return 0;
	if (fields_max && map->size > fields_max)
		return -E2BIG;
	fields = arena_alloc(arena, value_capacity(map->size) * sizeof(*fields));
	if (!fields)
		return -ENOMEM;
	ret->fields = fields;
	for (uint32_t i = 0; i < map->size; i++) {
		struct rpc_text name;
		int r;

		if (map->ptr[i].key.type != MSGPACK_OBJECT_STR)
			return -EINVAL;
		name = rpc_text_of(&map->ptr[i].key);
		if (memchr(name.data, '\0', name.len))
			return -EINVAL;
		fields[i].name = arena_text(arena, name.data, name.len);
		if (!fields[i].name)
			return -ENOMEM;
		if (fields_max && value_get(ret, fields[i].name))
			return -EEXIST;
		r = rpc_value_from(arena, &map->ptr[i].val, fields_max, &fields[i].value);
		if (r)
			return r;
		ret->count = i + 1;
	}
	return 0;
}

int rpc_value_from(struct arena *arena, const msgpack_object *object, uint32_t fields_max, struct value *ret)
{
	switch (object->type) {
	case MSGPACK_OBJECT_NIL:
		*ret = (struct value){.type = VALUE_NIL};
		return 0;
	case MSGPACK_OBJECT_BOOLEAN:
		value_bool(ret, object->via.boolean);
		return 0;
	case MSGPACK_OBJECT_POSITIVE_INTEGER:
		value_uint(ret, object->via.u64);
		return 0;
	case MSGPACK_OBJECT_NEGATIVE_INTEGER:
		value_int(ret, object->via.i64);
		return 0;
	case MSGPACK_OBJECT_FLOAT32:
	case MSGPACK_OBJECT_FLOAT64:
		*ret = (struct value){.type = VALUE_FLOAT, .real = object->via.f64};
		return 0;
	case MSGPACK_OBJECT_STR:
		return text_from(arena, object->via.str.ptr, object->via.str.size, ret);
	case MSGPACK_OBJECT_BIN:
		return text_from(arena, object->via.bin.ptr, object->via.bin.size, ret);
	case MSGPACK_OBJECT_ARRAY:
		return list_from(arena, &object->via.array, fields_max, ret);
	case MSGPACK_OBJECT_MAP:
		return map_from(arena, &object->via.map, fields_max, ret);
	case MSGPACK_OBJECT_EXT:
		break;
	}
	return -EINVAL;
}

void rpc_pack_fields(msgpack_packer *packer, const struct value *map)
{
	for (uint32_t i = 0; i < map->count; i++) {
		rpc_pack_text(packer, map->fields[i].name, strlen(map->fields[i].name));
		rpc_pack_value(packer, &map->fields[i].value);
	}
}

void rpc_pack_value(msgpack_packer *packer, const struct value *v)
{
	switch (v->type) {
	case VALUE_NIL:
		msgpack_pack_nil(packer);
		break;
	case VALUE_BOOL:
		if (v->truth)
			msgpack_pack_true(packer);
		else
			msgpack_pack_false(packer);
		break;
	case VALUE_INT:
		msgpack_pack_int64(packer, v->integer);
		break;
	case VALUE_UINT:
		msgpack_pack_uint64(packer, v->unsigned_integer);
		break;
	case VALUE_FLOAT:
		msgpack_pack_double(packer, v->real);
		break;
	case VALUE_TEXT:
		rpc_pack_text(packer, v->text, v->count);
		break;
	case VALUE_LIST:
		msgpack_pack_array(packer, v->count);
		for (uint32_t i = 0; i < v->count; i++)
			rpc_pack_value(packer, &v->items[i]);
		break;
	case VALUE_MAP:
		msgpack_pack_map(packer, v->count);
		rpc_pack_fields(packer, v);
		break;
	}
}
