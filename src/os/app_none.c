#include "os/os.h"
#include "os/thread/thread.h"
#include "os/memory/memory.h"
bool user_fault(uint64_t address, uint64_t error){(void)address;(void)error;return false;}
void app_fault(struct interrupt_frame *frame){panic_at(frame,NULL);}
void app_syscall(struct syscall_frame *frame){(void)frame;}
