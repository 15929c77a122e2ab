#include "os/shell/shell.h"
#include "os/os.h"
void shell_main(void)
{
    boot_ns = base_now_ns();
    print("prompt after %lu us\nASHLAR> ", boot_ns / 1000);
}
#include "os/thread/thread.h"
#include "os/memory/memory.h"
bool user_fault(uint64_t address, uint64_t error){(void)address;(void)error;return false;}
void app_fault(struct interrupt_frame *frame){panic_at(frame,NULL);}
void app_syscall(struct syscall_frame *frame){(void)frame;}
