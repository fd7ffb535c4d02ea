/*
** ini.h: the profile files of the vendors' tools
**
** "[section]", "key = value", whole-line comments with # or ;, and comments after a value
** behind a blank. An indented line below a key without a value is nested, as in
** ~/.aws/config: "s3 =" then "  addressing_style = path" is the key "s3.addressing_style".
** A section that comes again goes on; of a repeated key the last counts. Lines that are
** none of these are passed over, as the tools do.
*/
#ifndef TM_OSS_INI_H
#define TM_OSS_INI_H

#include "base/error.h"

struct tm_ini;

/* Reads a file of at most 1 MiB. NULL with *err: TM_ENOTFOUND, TM_ESYSTEM, TM_EMEMORY. */
struct tm_ini *tm_ini_open(const char *path, struct tm_error *err);

/* The same from memory; `text` is not needed afterwards. */
struct tm_ini *tm_ini_read(const char *text, size_t length, struct tm_error *err);

/* Overwrites what was read and frees; NULL is fine. */
void tm_ini_close(struct tm_ini *ini);

bool tm_ini_has_section(const struct tm_ini *ini, const char *section);

/* The value, trimmed, or NULL; an empty one is NULL too. Section names are compared exactly,
** keys without regard to case. Lives as long as the file. */
const char *tm_ini_get(const struct tm_ini *ini, const char *section, const char *key);

/* A whole small file into memory that the caller wipes and frees. NULL as tm_ini_open. */
char *tm_read_file(const char *path, size_t *length, struct tm_error *err);

#endif
