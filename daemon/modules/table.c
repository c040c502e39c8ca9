#include "daemon/modules/table.h"

#include <stddef.h>

const struct apikeyd_module *const modules_built_in[] = {
	&module_peer,	 /* who may ask */
	&module_permit,	 /* anybody may ask */
	&module_file,	 /* whose key it is, without the store */
	&module_store,	 /* whose key it is */
	&module_rate,	 /* how often */
	&module_penalty, /* bad keys, by address */
	&module_hours,	 /* when */
	&module_exec,	 /* asks a program */
	&module_deny,	 /* never */
	&module_debug,	 /* what is known */
	&module_ledger,	 /* writes it down */
	NULL,
};
