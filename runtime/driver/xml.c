/*
** xml.c: small XML documents of strangers, read by expat into a tree
**
** Nodes and text sit in an arena of blocks that never move. Text of a node is gathered in
** a buffer per open element and copied when the element closes.
*/
#include "driver/xml.h"

#include <expat.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_BYTES = 64 * 1024 };

struct block {
  struct block *next;
  size_t used, cap;
  char bytes[];
};

struct tm_xml {
  struct block *blocks;
  struct tm_xml_node *root;
};

struct frame { /* an element that is still open */
  struct tm_xml_node *node;
  struct tm_xml_node *last_child;
  struct tm_buffer text;
};

struct builder {
  XML_Parser parser;
  struct tm_xml *xml;
  struct frame stack[TM_XML_DEPTH];
  int depth;
  int nodes;
  const char *refused; /* why the handlers stopped the parser, or NULL */
};

static void *arena_alloc(struct tm_xml *xml, size_t n)
{
  n = (n + 15) & ~(size_t)15;
  struct block *b = xml->blocks;
  if (b == NULL || b->cap - b->used < n) {
    size_t cap = n > BLOCK_BYTES ? n : BLOCK_BYTES;
    b = malloc(sizeof *b + cap);
    if (b == NULL)
      return NULL;
    b->next = xml->blocks;
    b->used = 0;
    b->cap = cap;
    xml->blocks = b;
  }
  void *p = b->bytes + b->used;
  b->used += n;
  return p;
}

static char *arena_copy(struct tm_xml *xml, const char *s, size_t n)
{
  char *copy = arena_alloc(xml, n + 1);
  if (copy != NULL) {
    if (n > 0)
      memcpy(copy, s, n);
    copy[n] = '\0';
  }
  return copy;
}

static void refuse(struct builder *b, const char *why)
{
  b->refused = why;
  XML_StopParser(b->parser, XML_FALSE);
}

static const char OUT_OF_MEMORY[] = "out of memory";

static void on_start(void *data, const XML_Char *name, const XML_Char **attributes)
{
  (void)attributes;
  struct builder *b = data;
  if (b->refused != NULL)
    return;
  if (b->depth == TM_XML_DEPTH) {
    refuse(b, "elements nested too deep");
    return;
  }
  if (b->nodes++ == TM_XML_NODES) {
    refuse(b, "too many elements");
    return;
  }
  const char *local = strrchr(name, '\n'); /* the namespace separator */
  local = local != NULL ? local + 1 : name;
  struct tm_xml_node *node = arena_alloc(b->xml, sizeof *node);
  char *copy = arena_copy(b->xml, local, strlen(local));
  if (node == NULL || copy == NULL) {
    refuse(b, OUT_OF_MEMORY);
    return;
  }
  *node = (struct tm_xml_node){.name = copy, .text = ""};
  if (b->depth == 0) {
    b->xml->root = node;
  } else {
    struct frame *parent = &b->stack[b->depth - 1];
    if (parent->last_child == NULL)
      parent->node->child = node;
    else
      parent->last_child->next = node;
    parent->last_child = node;
  }
  struct frame *f = &b->stack[b->depth++];
  f->node = node;
  f->last_child = NULL;
  f->text.len = 0;
}

static void on_text(void *data, const XML_Char *text, int n)
{
  struct builder *b = data;
  if (b->refused == NULL && b->depth > 0 &&
      !tm_buffer_add(&b->stack[b->depth - 1].text, text, (size_t)n))
    refuse(b, OUT_OF_MEMORY);
}

static void on_end(void *data, const XML_Char *name)
{
  (void)name;
  struct builder *b = data;
  if (b->refused != NULL || b->depth == 0)
    return;
  struct frame *f = &b->stack[--b->depth];
  if (f->text.len == 0)
    return;
  char *text = arena_copy(b->xml, f->text.data, f->text.len);
  if (text == NULL) {
    refuse(b, OUT_OF_MEMORY);
    return;
  }
  f->node->text = text;
  f->node->text_len = f->text.len;
}

static void on_doctype(void *data, const XML_Char *name, const XML_Char *sysid,
                       const XML_Char *pubid, int has_internal_subset)
{
  (void)name;
  (void)sysid;
  (void)pubid;
  (void)has_internal_subset;
  refuse(data, "a document type is not accepted");
}

static void set_error(struct builder *b, struct tm_error *err)
{
  if (b->refused == OUT_OF_MEMORY) {
    tm_error_set(err, TM_EMEMORY, "out of memory");
    return;
  }
  const char *why =
      b->refused != NULL ? b->refused : XML_ErrorString(XML_GetErrorCode(b->parser));
  tm_error_set(err, TM_EPROTOCOL, "bad XML at line %lu, column %lu: %s",
               (unsigned long)XML_GetCurrentLineNumber(b->parser),
               (unsigned long)XML_GetCurrentColumnNumber(b->parser), why);
}

/* expat takes int lengths: feed it in pieces. */
static bool feed(struct builder *b, const char *bytes, size_t n)
{
  enum { PIECE = 1 << 20 };
  for (;;) {
    int len = n > PIECE ? PIECE : (int)n;
    bool last = (size_t)len == n;
    if (XML_Parse(b->parser, bytes, len, last) != XML_STATUS_OK)
      return false;
    if (last)
      return true;
    bytes += len;
    n -= (size_t)len;
  }
}

struct tm_xml *tm_xml_parse(const char *bytes, size_t n, struct tm_error *err)
{
  while (n > 0 && strchr(" \t\r\n", *bytes) != NULL && *bytes != '\0') {
    bytes++; /* stores send blanks to keep a connection alive, even before <?xml */
    n--;
  }
  struct builder b = {0};
  bool ok = false;
  b.xml = calloc(1, sizeof *b.xml);
  b.parser = XML_ParserCreateNS(NULL, '\n');
  if (b.xml == NULL || b.parser == NULL) {
    tm_error_set(err, TM_EMEMORY, "out of memory");
  } else {
    XML_SetUserData(b.parser, &b);
    XML_SetElementHandler(b.parser, on_start, on_end);
    XML_SetCharacterDataHandler(b.parser, on_text);
    XML_SetStartDoctypeDeclHandler(b.parser, on_doctype);
    ok = feed(&b, n > 0 ? bytes : "", n) && b.refused == NULL;
    if (!ok)
      set_error(&b, err);
  }
  for (int i = 0; i < TM_XML_DEPTH; i++)
    tm_buffer_free(&b.stack[i].text);
  if (b.parser != NULL)
    XML_ParserFree(b.parser);
  if (ok)
    return b.xml;
  tm_xml_free(b.xml);
  return NULL;
}

void tm_xml_free(struct tm_xml *xml)
{
  if (xml == NULL)
    return;
  for (struct block *b = xml->blocks, *next; b != NULL; b = next) {
    next = b->next;
    free(b);
  }
  free(xml);
}

const struct tm_xml_node *tm_xml_root(const struct tm_xml *xml)
{
  return xml->root;
}

static const struct tm_xml_node *named(const struct tm_xml_node *node, const char *name)
{
  while (node != NULL && strcmp(node->name, name) != 0)
    node = node->next;
  return node;
}

const struct tm_xml_node *tm_xml_child(const struct tm_xml_node *node, const char *name)
{
  return node == NULL ? NULL : named(node->child, name);
}

const struct tm_xml_node *tm_xml_same(const struct tm_xml_node *node)
{
  return named(node->next, node->name);
}

const char *tm_xml_text(const struct tm_xml_node *node, const char *name)
{
  const struct tm_xml_node *child = tm_xml_child(node, name);
  return child == NULL ? NULL : child->text;
}

bool tm_xml_escape(struct tm_buffer *out, const char *text, size_t n)
{
  for (size_t i = 0; i < n; i++) {
    unsigned char c = (unsigned char)text[i];
    bool ok;
    if (c == '&')
      ok = tm_buffer_adds(out, "&amp;");
    else if (c == '<')
      ok = tm_buffer_adds(out, "&lt;");
    else if (c == '>')
      ok = tm_buffer_adds(out, "&gt;");
    else if (c == '"' || c == '\'' || c == 127 || (c < 32 && c != '\t'))
      ok = tm_buffer_addf(out, "&#x%X;", c);
    else
      ok = tm_buffer_addc(out, (char)c);
    if (!ok)
      return false;
  }
  return true;
}
