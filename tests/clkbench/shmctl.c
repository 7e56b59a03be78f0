/*
 * The simulator makes shared memory segments (shmget, shmat) that the kernel knows nothing of. This
 * answers shmctl(IPC_STAT) for them: the size of a segment of this machine, owned by whoever asks.
 * Everything else goes to the system.
 *
 * And it stamps a datagram's departure when the stamp is asked for, which a program that looks once the reply
 * is there takes for a round trip of no length. SO_TIMESTAMPING is refused, as by a system without it: our own
 * reading of the clock before sending stands, which in the simulator is the same instant.
 *
 *   cc -O2 -fPIC -shared -o shmctl.so shmctl.c
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <unistd.h>

/* The segments' keys, "NTP0" and so on; the simulator's identifiers are the keys. */
#define FIRST_UNIT 0x4e545030
#define UNITS 4

int shmctl(int id, int command, struct shmid_ds *status)
{
	static int (*system_shmctl)(int, int, struct shmid_ds *);

	if (command == IPC_STAT && id >= FIRST_UNIT && id < FIRST_UNIT + UNITS) {
		memset(status, 0, sizeof *status);
		status->shm_segsz = sizeof(time_t) == 8 ? 96 : 80;
		status->shm_perm.uid = geteuid();
		status->shm_perm.mode = 0600;
		return 0;
	}
	if (!system_shmctl)
		system_shmctl = (int (*)(int, int, struct shmid_ds *))dlsym(RTLD_NEXT, "shmctl");
	return system_shmctl(id, command, status);
}

int setsockopt(int socket, int level, int name, const void *value, socklen_t length)
{
	static int (*next_setsockopt)(int, int, int, const void *, socklen_t);

	if (level == SOL_SOCKET && name == SO_TIMESTAMPING) {
		errno = ENOPROTOOPT;
		return -1;
	}
	if (!next_setsockopt)
		next_setsockopt = (int (*)(int, int, int, const void *, socklen_t))dlsym(RTLD_NEXT, "setsockopt");
	return next_setsockopt(socket, level, name, value, length);
}
