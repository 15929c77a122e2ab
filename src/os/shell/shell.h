/* shell/shell.h: the shell on the console, and what runs without one. */
#ifndef OS_SHELL_H
#define OS_SHELL_H

#include <stdbool.h>

struct blk;
struct blk_queue;

/* exec= or app= of the command line, and then off with its status; else commands from the console
 * until poweroff. */
void shell_main(void);

/* A command. Returns its status: 0 if all went well. */
struct shell_command {
    const char *name;
    const char *arguments;
    const char *help;
    int (*run)(unsigned argc, char **argv); /* argv[0] is the name */
};
extern const struct shell_command shell_commands[]; /* ends with a zero name */

/* Read a line from the console, with editing and history. false at Ctrl-D. */
bool shell_read_line(char *line, unsigned size);

/* Run a line, which is changed: commands separated by `;`. The status of the first that failed, or
 * 0. */
int shell_run(char *line);

/* The commands, by file. */
int shell_help(unsigned argc, char **argv);
int shell_blkdevs(unsigned argc, char **argv);
int shell_blkinfo(unsigned argc, char **argv);
int shell_blktest(unsigned argc, char **argv);
int shell_blkperf(unsigned argc, char **argv);
int shell_loadmodel(unsigned argc, char **argv);
int shell_bench(unsigned argc, char **argv);
int shell_csd(unsigned argc, char **argv);
int shell_ls(unsigned argc, char **argv);
int shell_cat(unsigned argc, char **argv);
int shell_mount(unsigned argc, char **argv);
int shell_umount(unsigned argc, char **argv);
int shell_run_program(unsigned argc, char **argv);
int shell_mem(unsigned argc, char **argv);
int shell_cpus(unsigned argc, char **argv);
int shell_poweroff(unsigned argc, char **argv);
int shell_panic(unsigned argc, char **argv);
int shell_reboot(unsigned argc, char **argv);

/* Open a device and a queue on it (a message otherwise); close both. */
int shell_open(const char *spec, unsigned flags, unsigned depth, struct blk **dev,
               struct blk_queue **queue);
void shell_close(struct blk *dev, struct blk_queue *queue);

#endif
