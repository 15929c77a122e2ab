#ifndef V
#define V
static inline void virtio_setup(void){}
#endif
