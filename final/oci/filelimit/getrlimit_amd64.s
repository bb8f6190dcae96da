#include "textflag.h"

// func getrlimit(resource uintptr, limit *[2]uint64) int
TEXT ·getrlimit(SB), NOSPLIT, $0-24
	MOVQ $302, AX // prlimit64
	MOVQ $0, DI
	MOVQ resource+0(FP), SI
	MOVQ $0, DX
	MOVQ limit+8(FP), R10
	SYSCALL
	MOVQ AX, ret+16(FP)
	RET
