/*
** ossd_xml_fuzz.c: XML bodies, and the records of object files
*/
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "driver/xml.h"
#include "ossd/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk(const struct tm_xml_node *node, int depth)
{
  for (; node != NULL; node = node->next) {
    if (depth > TM_XML_DEPTH || strlen(node->text) > node->text_len)
      abort();
    walk(node->child, depth + 1);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  struct tm_error err;
  struct tm_xml *xml = tm_xml_parse((const char *)data, size, &err);
  if (xml != NULL)
    walk(tm_xml_root(xml), 1);
  tm_xml_free(xml);
  struct tm_ossd_record *r = calloc(1, sizeof *r);
  struct tm_buffer again = {0};
  if (r != NULL && tm_ossd_record_parse((const char *)data, size, r, &err) &&
      !tm_ossd_record_write(r, &again))
    abort();
  if (r != NULL)
    tm_ossd_record_free(r);
  tm_buffer_free(&again);
  free(r);
  return 0;
}
