/*
** ossd.h: the command `tidemill ossd`
*/
#ifndef TM_OSSD_OSSD_H
#define TM_OSSD_OSSD_H

/* Serves until SIGINT or SIGTERM fires the process-wide interrupt. Returns the exit code;
** argv[0] is "ossd". */
int tm_ossd_main(int argc, char **argv);

#endif
