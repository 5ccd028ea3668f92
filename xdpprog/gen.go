package xdpprog

// The compiler is named with its version, so that `go generate` gives the same
// bytes on every machine that has it. Both include directories of the C library
// are given because its asm/ headers lie in one named after the machine's
// architecture, whichever that is.
//
//go:generate go tool bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel -type counter uplink uplink.c -- -O2 -Wall -Werror -mcpu=v2 -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu
//go:generate go tool bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel -type counter endpoint endpoint.c -- -O2 -Wall -Werror -mcpu=v2 -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu
//go:generate go tool bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel -type slot trunk trunk.c -- -O2 -Wall -Werror -mcpu=v2 -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu
