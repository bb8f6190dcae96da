#include "textflag.h"

// The child has the parent's stack. What it calls from here on overwrites the return address
// on it, which the parent, when it goes on, still needs: hence in a register meanwhile.

// func vfork(trap, a1, a2 uintptr) (pid, errno uintptr)
TEXT ·vfork(SB), NOSPLIT|NOFRAME, $0-40
	MOVQ a1+8(FP), DI
	MOVQ a2+16(FP), SI
	MOVQ $0, DX
	MOVQ $0, R10
	MOVQ $0, R8
	MOVQ trap+0(FP), AX
	POPQ R12
	SYSCALL
	PUSHQ R12
	CMPQ AX, $0xfffffffffffff001
	JCC  failed
	MOVQ AX, pid+24(FP)
	MOVQ $0, errno+32(FP)
	RET

failed:
	NEGQ AX
	MOVQ $0, pid+24(FP)
	MOVQ AX, errno+32(FP)
	RET
