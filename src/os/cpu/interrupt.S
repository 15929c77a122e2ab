/*
 * The ways from the processor into C: interrupts, exceptions, system calls, and from one thread to
 * another. struct interrupt_frame and struct syscall_frame in cpu.h have the layouts pushed here.
 */
    .text
/* Vector n enters at interrupt_entries + 16 * n. */
    .balign 16
    .globl interrupt_entries
interrupt_entries:
    vector = 0
    .rept 256
    .balign 16
    .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30)
    pushq $0 /* the processor pushes an error code for the others */
    .endif
    pushq $vector
    jmp interrupt_common
    vector = vector + 1
    .endr

interrupt_common:
    pushq %rax
    pushq %rbx
    pushq %rcx
    pushq %rdx
    pushq %rsi
    pushq %rdi
    pushq %rbp
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    cld
    movq %rsp, %rdi
    movq %rsp, %rbx
    call interrupt_dispatch
    movq %rax, %rsp
    cmpq %rax, %rbx
    je interrupt_return
    movq %rax, %rdi /* the frame was moved to the thread's own stack, where it may wait */
    call interrupt_on_thread
interrupt_return:
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rbp
    popq %rdi
    popq %rsi
    popq %rdx
    popq %rcx
    popq %rbx
    popq %rax
    addq $16, %rsp
    iretq

/*
 * `syscall` of a Linux program. It runs at the same privilege, so only the stack changes. All
 * registers but rax, rcx and r11 come back as they were; rflags and the stack are the caller's.
 */
    .balign 16
    .globl syscall_entry
syscall_entry:
    movq %rsp, %gs:16
    movq %gs:8, %rsp
    pushq %gs:16
    pushq %r11
    pushq %rcx
    pushq %rax
    pushq %rdi
    pushq %rsi
    pushq %rdx
    pushq %r10
    pushq %r8
    pushq %r9
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, %rdi
    sti
    cld
    call app_syscall
    /* A new thread of a program starts here, on a copy of the frame of its parent. */
    .globl syscall_return
syscall_return:
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    popq %r9
    popq %r8
    popq %r10
    popq %rdx
    popq %rsi
    popq %rdi
    popq %rax
    popq %rcx
    popfq
    popq %rsp
    jmp *%rcx

/* void thread_switch(uint64_t *save_sp, uint64_t load_sp) */
    .balign 16
    .globl thread_switch
thread_switch:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret

/* The first return of a new thread: rbx holds its function, r12 its argument. */
    .globl thread_first
thread_first:
    call thread_started
    movq %r12, %rdi
    call *%rbx
    call thread_exit
    ud2
    .section .note.GNU-stack, "", @progbits
