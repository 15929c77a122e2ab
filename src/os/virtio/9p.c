#include "os/virtio/virtio.h"
bool virtio_9p_start(struct virtio *v){(void)v;return false;}
