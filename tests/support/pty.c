/*
** pty.c: runs a program on a pseudo-terminal, for tests
**
**   pty COLUMNSxROWS PROGRAM [ARG...]
**
** What comes on standard input is typed at the terminal, what the terminal shows goes to
** standard output. A line "COLUMNSxROWS" on descriptor 3 changes the window's size. The end of
** standard input hangs up. The exit code is the program's, 128 + N if signal N ended it.
*/
#include <errno.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

static struct winsize read_size(const char *text)
{
  unsigned columns = 80, rows = 24;
  if (sscanf(text, "%ux%u", &columns, &rows) != 2)
    fprintf(stderr, "pty: bad size '%s'\n", text);
  return (struct winsize){.ws_col = (unsigned short)columns,
                          .ws_row = (unsigned short)rows};
}

/* Copies what there is; false at the end. */
static int copy(int from, int to)
{
  char bytes[4096];
  ssize_t n = read(from, bytes, sizeof bytes);
  for (ssize_t at = 0; at < n;) {
    ssize_t put = write(to, bytes + at, (size_t)(n - at));
    if (put < 0)
      return 0;
    at += put;
  }
  return n > 0;
}

static void resize(int master, int control)
{
  char text[64];
  ssize_t n = read(control, text, sizeof text - 1);
  if (n <= 0)
    return;
  text[n] = '\0';
  struct winsize size = read_size(text);
  ioctl(master, TIOCSWINSZ, &size);
}

static int status_of(pid_t pid)
{
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
    ;
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int main(int argc, char **argv)
{
  if (argc < 3) {
    fputs("usage: pty COLUMNSxROWS PROGRAM [ARG...]\n", stderr);
    return 2;
  }
  struct winsize size = read_size(argv[1]);
  int master;
  pid_t pid = forkpty(&master, NULL, NULL, &size);
  if (pid < 0) {
    perror("pty");
    return 1;
  }
  if (pid == 0) {
    close(3);
    execvp(argv[2], argv + 2);
    perror(argv[2]);
    _exit(127);
  }
  struct pollfd fds[3] = {{.fd = STDIN_FILENO, .events = POLLIN},
                          {.fd = master, .events = POLLIN},
                          {.fd = 3, .events = POLLIN}};
  for (;;) {
    if (poll(fds, 3, -1) < 0 && errno != EINTR)
      break;
    if (fds[1].revents != 0 && !copy(master, STDOUT_FILENO))
      break;
    if (fds[2].revents & POLLIN)
      resize(master, 3);
    else if (fds[2].revents != 0)
      fds[2].fd = -1;
    if (fds[0].revents != 0 && !copy(STDIN_FILENO, master))
      break;
  }
  close(master); /* the hang-up */
  return status_of(pid);
}
