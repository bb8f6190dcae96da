#include "textflag.h"

// code is the whole of the program that the child of ExecProtected becomes first. It is
// never called: its instructions are copied into a file (see elf). It uses no memory but the
// stack that the kernel has made: the number of arguments, the arguments (paths, an empty
// one, those of the program), zero, the environment.
TEXT code<>(SB), NOSPLIT|NOFRAME, $0
	// The last exec is to close the descriptor for reports: fcntl(fd, F_SETFD, FD_CLOEXEC).
	MOVQ $0x400078, AX // reportAddress
	MOVL (AX), BX
	MOVQ BX, DI
	MOVQ $2, SI
	MOVQ $1, DX
	MOVQ $72, AX
	SYSCALL

	// R12: the next path, R13: the program's arguments, R14: its environment.
	LEAQ 8(SP), R12
	MOVQ R12, R13
empty:
	MOVQ (R13), AX
	ADDQ $8, R13
	CMPB (AX), $0
	JNE  empty
	MOVQ (SP), AX
	LEAQ 16(SP)(AX*8), R14

next:
	MOVQ (R12), DI
	ADDQ $8, R12
	CMPB (DI), $0
	JEQ  report
	MOVQ R13, SI
	MOVQ R14, DX
	MOVQ $59, AX // execve
	SYSCALL
	NEGQ AX
	MOVQ AX, R15
	CMPQ AX, $2 // ENOENT
	JEQ  next
	CMPQ AX, $13 // EACCES
	JEQ  next
	CMPQ AX, $20 // ENOTDIR
	JEQ  next

report:
	// The message of walk: trampolineStep and the error number.
	SHLQ  $32, R15
	ORQ   $0xfffe, R15
	PUSHQ R15
	MOVQ  BX, DI
	MOVQ  SP, SI
	MOVQ  $8, DX
	MOVQ  $1, AX // write
	SYSCALL
	MOVQ  $125, DI
	MOVQ  $231, AX // exit_group
	SYSCALL
	INT   $3

// func codeAddress() unsafe.Pointer
TEXT ·codeAddress(SB), NOSPLIT, $0-8
	LEAQ code<>(SB), AX
	MOVQ AX, ret+0(FP)
	RET
