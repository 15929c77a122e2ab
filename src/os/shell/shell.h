/* shell/shell.h: the shell on the console, and what runs without one. */
#ifndef OS_SHELL_H
#define OS_SHELL_H

/* exec= or app= of the command line, and then off with its status; else commands from the console
 * until poweroff. */
void shell_main(void);

#endif
