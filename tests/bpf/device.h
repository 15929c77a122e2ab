/* An environment for tests, like that of a computational device: its helpers do nothing. */
#ifndef TESTS_BPF_DEVICE_H
#define TESTS_BPF_DEVICE_H

#include <ashlar/bpf.h>

enum { DEVICE_MEMORY, DEVICE_CHUNK, DEVICE_CONTEXT, DEVICE_REGIONS };

extern const struct bpf_environment device_environment;

#endif
