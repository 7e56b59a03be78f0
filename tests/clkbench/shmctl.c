/*
 * The simulator makes shared memory segments (shmget, shmat) that the kernel knows nothing of. This
 * answers shmctl(IPC_STAT) for them: the size of a segment of this machine, owned by whoever asks.
 * Everything else goes to the system.
 *
 *   cc -O2 -fPIC -shared -o shmctl.so shmctl.c
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/shm.h>
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
