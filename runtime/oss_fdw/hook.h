/*
** hook.h: keys given to a server are moved out of the catalogue that everybody may read
*/
#ifndef FDW_HOOK_H
#define FDW_HOOK_H

/* Installs the ProcessUtility hook when the library is being loaded by one of the preload
** settings, else does nothing; once, from _PG_init. */
void fdw_hook_init(void);

#endif
