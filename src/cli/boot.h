/*
 * cli/boot.h: what the files of `ashlar boot` share.
 *
 * boot.c         the table, the machine and the kernel command line
 * boot_disk.c    --device: block nodes for QEMU, or exports of an NBD server in this process
 * boot_share.c   --share
 * boot_initrd.c  --app: check the program, pack it into an initramfs
 * boot_qemu.c    find an acceleration that works, run QEMU, take its exit status
 */
#ifndef CLI_BOOT_H
#define CLI_BOOT_H

#include <limits.h>
#include <sys/types.h>

#include "cli/cli.h"
#include "linux/nbd/server.h"
#include "os/cmdline.h"

enum {
    BOOT_MAX_WORDS = 512,  /* of QEMU's command line */
    BOOT_MAX_DEVICES = 24, /* disks and shares: as many as microvm has places for */
    BOOT_MAX_CPUS = 255,
};

struct boot {
    struct cli *cli;
    bool print; /* show the command line, touch nothing */
    bool microvm;
    unsigned cpus;
    unsigned disks;
    unsigned shares;
    char folder[PATH_MAX]; /* for temporary files */
    bool folder_made;
    bool initrd_made;
    char initrd[PATH_MAX + 32]; /* "": none */

    char *word[BOOT_MAX_WORDS + 1]; /* QEMU's command line, owned */
    unsigned words;
    bool no_memory;

    char line[CMDLINE_MAX];  /* of the kernel */
    char fstab[CMDLINE_MAX]; /* the list inside vfs.fstab=[] */

    /* Devices that QEMU cannot open itself are served to it. */
    unsigned served;
    struct nbd_export exports[BOOT_MAX_DEVICES];
    char names[BOOT_MAX_DEVICES][16];
    struct nbd_server *server;
};

/* Append a word to QEMU's command line. */
void boot_word(struct boot *b, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Make the folder for temporary files, if it is not there; with --print, only name it. */
int boot_make_folder(struct boot *b);

/* Append what virtio device `name` ("virtio-blk") is called on this machine, and its place, to a
 * word: "virtio-blk-pci", or "virtio-blk-device,bus=virtio-mmio-bus.0". */
void boot_device_name(const struct boot *b, const char *name, char *out, size_t size);

/* The parts below return CLI_OK, CLI_FAILED or CLI_USAGE, with the message printed. */

int boot_add_disk(struct boot *b, const char *spec);
int boot_start_server(struct boot *b); /* for the disks that need it */
int boot_stop_server(struct boot *b);  /* flush and close them; print what stats filters counted */

int boot_add_share(struct boot *b, const char *text);

/* Is this file a program that the unikernel can run? Its message says why not. */
int boot_check_program(const struct cli *cli, const char *path);
/* Write an initramfs with the program at /bin/NAME, /dev and /tmp. */
int boot_pack_program(const struct cli *cli, const char *program, const char *archive);

/* Append -accel and -cpu. */
int boot_choose_accel(struct boot *b);
/* Run the words until the machine ends, and return the exit code for our own process. */
int boot_run(struct boot *b);

#endif
