#include "textflag.h"

// The return address is in a register here, R30, and never on the stack that the child shares.

// func vfork(trap, a1, a2 uintptr) (pid, errno uintptr)
TEXT ·vfork(SB), NOSPLIT, $0-40
	MOVD a1+8(FP), R0
	MOVD a2+16(FP), R1
	MOVD $0, R2
	MOVD $0, R3
	MOVD $0, R4
	MOVD trap+0(FP), R8
	SVC
	CMN  $4095, R0
	BCC  ok
	NEG  R0, R0
	MOVD $0, pid+24(FP)
	MOVD R0, errno+32(FP)
	RET

ok:
	MOVD R0, pid+24(FP)
	MOVD $0, errno+32(FP)
	RET
