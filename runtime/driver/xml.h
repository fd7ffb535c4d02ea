/*
** xml.h: small XML documents of strangers, read by expat into a tree
**
** Names lose their namespace. A document type declaration, and with it every entity but the
** five predefined ones, is refused. A tree has one owner; its nodes live as long as it.
*/
#ifndef TM_DRIVER_XML_H
#define TM_DRIVER_XML_H

#include "base/buffer.h"

struct tm_xml; /* a whole document */

struct tm_xml_node {
  const char *name; /* local name */
  const char *text; /* all character data directly inside, "" if none; NUL-terminated */
  size_t text_len;
  const struct tm_xml_node *child; /* first element inside, or NULL */
  const struct tm_xml_node *next;  /* next sibling element, or NULL */
};

enum { TM_XML_DEPTH = 16, TM_XML_NODES = 100000 };

/* NULL with *err: TM_EPROTOCOL (malformed, a DTD, deeper than TM_XML_DEPTH, more nodes
** than TM_XML_NODES; the message has line and column), TM_EMEMORY. */
struct tm_xml *tm_xml_parse(const char *bytes, size_t n, struct tm_error *err);
void tm_xml_free(struct tm_xml *xml); /* NULL is fine */

const struct tm_xml_node *tm_xml_root(const struct tm_xml *xml);

/* First child of that name, or NULL; `node` may be NULL. */
const struct tm_xml_node *tm_xml_child(const struct tm_xml_node *node, const char *name);

/* Next sibling of the same name, or NULL: for (n = child(p, "Key"); n; n = same(n)). */
const struct tm_xml_node *tm_xml_same(const struct tm_xml_node *node);

/* Text of the first child of that name, or NULL when there is none. */
const char *tm_xml_text(const struct tm_xml_node *node, const char *name);

/* Appends `text` with & < > and quotes escaped and control characters as references. Those
** but tab, CR and LF have no place in XML 1.0 at all: keep them out. False: out of memory. */
bool tm_xml_escape(struct tm_buffer *out, const char *text, size_t n) TM_MUSTCHECK;

#endif
