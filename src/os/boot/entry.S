/*
 * The way in: PVH (Xen's "x86/HVM direct boot ABI"): 32-bit protected mode, paging off, interrupts
 * off, %ebx = physical address of struct hvm_start_info. Also the way in of every other processor.
 */
#define KERNEL_BASE 0xffffffff80000000
#define PHYS(symbol) ((symbol) - KERNEL_BASE)

#define CR0_PE 0x1
#define CR0_MP 0x2
#define CR0_NE 0x20
#define CR0_WP 0x10000
#define CR0_PG 0x80000000
#define CR4_PAE 0x20
#define CR4_OSFXSR 0x200
#define CR4_OSXMMEXCPT 0x400
#define MSR_EFER 0xc0000080
#define EFER_SCE 0x1
#define EFER_LME 0x100
#define EFER_NXE 0x800

    .section .note.pvh, "a"
    .align 4
    .long 4, 8, 18 /* XEN_ELFNOTE_PHYS32_ENTRY */
    .asciz "Xen"
    .quad PHYS(boot_entry)

    .section .text.boot, "ax"
    .code32
    .globl boot_entry
boot_entry:
    cld
    movl $PHYS(boot_stack_end), %esp
    rdtsc
    movl %eax, PHYS(boot_tsc)
    movl %edx, PHYS(boot_tsc + 4)

    /* Boot's page tables: the first 4 GiB at 0, at the direct map, and 1 GiB of it at the image. */
    movl $PHYS(boot_directory), %edi
    xorl %ecx, %ecx
1:  movl %ecx, %eax
    shll $21, %eax
    orl $0x83, %eax /* present, writable, 2 MiB */
    movl %eax, (%edi, %ecx, 8)
    movl %ecx, %eax
    shrl $11, %eax
    movl %eax, 4(%edi, %ecx, 8)
    incl %ecx
    cmpl $2048, %ecx
    jb 1b
    movl $PHYS(boot_pointers), %edi
    movl $PHYS(boot_directory) + 3, %eax
    xorl %ecx, %ecx
2:  movl %eax, (%edi, %ecx, 8)
    addl $4096, %eax
    incl %ecx
    cmpl $4, %ecx
    jb 2b
    movl $PHYS(boot_directory) + 3, PHYS(boot_pointers_high + 510 * 8)
    movl $PHYS(boot_pointers) + 3, PHYS(boot_root)
    movl $PHYS(boot_pointers) + 3, PHYS(boot_root + 256 * 8)
    movl $PHYS(boot_pointers_high) + 3, PHYS(boot_root + 511 * 8)

    call long_mode
    ljmp $8, $PHYS(boot_64)

/* Paging and long mode on, with boot's tables; still in a 32-bit segment of boot_gdt. */
long_mode:
    movl %cr4, %eax
    orl $(CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT), %eax
    movl %eax, %cr4
    movl $PHYS(boot_root), %eax
    movl %eax, %cr3
    movl $MSR_EFER, %ecx
    rdmsr
    orl $(EFER_SCE | EFER_LME | EFER_NXE), %eax
    wrmsr
    movl %cr0, %eax
    andl $~0x6000000c, %eax /* caches on; no emulation of the FPU, no task-switched */
    orl $(CR0_PE | CR0_MP | CR0_NE | CR0_WP | CR0_PG), %eax
    movl %eax, %cr0
    lgdt PHYS(boot_gdt_pointer)
    ret

    .code64
boot_64:
    movabsq $boot_high, %rax
    jmp *%rax
boot_high:
    xorl %eax, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl %eax, %fs
    movl %eax, %gs
    movq $boot_stack_end, %rsp
    movl %ebx, %edi
    xorl %ebp, %ebp
    call start
    ud2

/* ---- other processors ------------------------------------------------------------------- */

/* Copied to a page below 1 MiB, whose number is the SIPI vector; runs in real mode from there. */
    .section .rodata
    .align 16
    .globl boot_ap_code, boot_ap_code_end
    .code16
boot_ap_code:
    cli
    movw %cs, %ax
    movw %ax, %ds
    movzwl %ax, %ebx
    shll $4, %ebx /* where this code lies */
    leal (boot_ap_32 - boot_ap_code)(%ebx), %eax
    movl %eax, (boot_ap_jump - boot_ap_code)
    lgdtl (boot_ap_gdt_pointer - boot_ap_code)
    movl %cr0, %eax
    orl $CR0_PE, %eax
    movl %eax, %cr0
    ljmpl *(boot_ap_jump - boot_ap_code)
    .align 4
boot_ap_jump:
    .long 0
    .word 24
boot_ap_gdt_pointer:
    .word 39
    .long PHYS(boot_gdt)
    .code32
boot_ap_32:
    movl $32, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl (boot_ap_args - boot_ap_code)(%ebx), %esp /* a few bytes at the end of this page */
    movl $PHYS(long_mode), %eax
    call *%eax
    ljmp $8, $PHYS(boot_ap_64)
    .align 8
    .globl boot_ap_args
boot_ap_args:
    .quad 0
boot_ap_code_end:

    .section .text.boot, "ax"
    .code64
boot_ap_64:
    movabsq $boot_ap_high, %rax
    jmp *%rax
boot_ap_high:
    xorl %eax, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl %eax, %fs
    movl %eax, %gs
    movq boot_ap_root(%rip), %rax /* the kernel's own tables: its stack is only there */
    movq %rax, %cr3
    movq boot_ap_stack(%rip), %rsp
    movq boot_ap_cpu(%rip), %rdi
    xorl %ebp, %ebp
    call start_ap
    ud2

    .section .data
    .align 8
    .globl boot_tsc, boot_ap_root, boot_ap_stack, boot_ap_cpu
boot_tsc:
    .quad 0
boot_ap_root:
    .quad 0
boot_ap_stack:
    .quad 0
boot_ap_cpu:
    .quad 0
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff /* 8: code, 64 bits */
    .quad 0x00af93000000ffff /* 16: data */
    .quad 0x00cf9b000000ffff /* 24: code, 32 bits */
    .quad 0x00cf93000000ffff /* 32: data, 32 bits */
boot_gdt_pointer:
    .word 39
    .quad PHYS(boot_gdt)

    .section .boot_tables, "aw", @nobits
    .align 4096
    .globl boot_root
boot_root:
    .skip 4096
boot_pointers:
    .skip 4096
boot_pointers_high:
    .skip 4096
boot_directory:
    .skip 16384
boot_stack:
    .skip 16384
boot_stack_end:
    .section .note.GNU-stack, "", @progbits
