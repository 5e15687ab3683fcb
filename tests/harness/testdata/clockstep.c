// SPDX-License-Identifier: Apache-2.0
//
// LD_PRELOAD of a process whose CLOCK_REALTIME tests set: it is ahead by the nanoseconds in the first eight bytes of the
// file VMLET_CLOCK_STEP, while CLOCK_MONOTONIC goes on, as after settimeofday(2). Go and the C library ask the vDSO for
// both, so its function begins with a jump to the one here. For x86-64.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static volatile const int64_t *step;

static int stepped_gettime(clockid_t clock, struct timespec *ts)
{
	long result;
	__asm__ volatile("syscall" : "=a"(result) : "0"((long)SYS_clock_gettime), "D"((long)clock), "S"(ts) : "rcx", "r11", "memory");
	if (result == 0 && clock == CLOCK_REALTIME) {
		int64_t at = ts->tv_sec * 1000000000LL + ts->tv_nsec + *step;
		ts->tv_sec = at / 1000000000LL;
		ts->tv_nsec = at % 1000000000LL;
	}
	return (int)result;
}

static void die(const char *what)
{
	perror(what);
	_exit(111);
}

__attribute__((constructor)) static void load(void)
{
	int file = open(getenv("VMLET_CLOCK_STEP") ?: "", O_RDONLY | O_CLOEXEC);
	void *map = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *step, PROT_READ, MAP_SHARED, file, 0);
	if (map == MAP_FAILED)
		die("VMLET_CLOCK_STEP");
	step = map;
	close(file);

	void *vdso = dlopen("linux-vdso.so.1", RTLD_NOW | RTLD_NOLOAD);
	void *gettime = vdso ? dlsym(vdso, "__vdso_clock_gettime") : NULL;
	if (!gettime)
		die("vDSO");
	// movabs $stepped_gettime, %rax; jmp *%rax. The vDSO is not writable, but to a debugger's way.
	unsigned char jump[12] = {0x48, 0xb8, [10] = 0xff, 0xe0};
	void *target = (void *)stepped_gettime;
	memcpy(jump + 2, &target, sizeof target);
	int memory = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	if (memory < 0 || pwrite(memory, jump, sizeof jump, (off_t)(uintptr_t)gettime) != sizeof jump)
		die("write the vDSO");
	close(memory);
}
