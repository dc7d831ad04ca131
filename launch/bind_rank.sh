#!/usr/bin/env bash
# Runs one rank of a job: binds it to its share of the host's cores, then starts the program in its place.
#
#   mpirun --bind-to none ... launch/bind_rank.sh PROGRAM [ARGUMENTS]      (srun: with --cpu-bind=none)
#
# The cores that this process may use are cut evenly among the ranks of the host. Where every rank has a GPU, the ranks
# whose GPUs share a NUMA node cut that node's cores among them. Hardware threads of one core stay together.
# OMP_NUM_THREADS becomes the number of cores (at most the share of a CPU quota), unless it is set. FWL_BIND=none: only the
# threads are set. Nothing is bound where ranks outnumber cores, or where Slurm gave the job fewer CPUs than the process
# may use (others may run there).
# Signals that ask a run to save wait, blocked, until `fwl train` has its handlers (a blocked signal survives exec): by
# default they would end it. Where env cannot block, USR1 and USR2 are ignored meanwhile: whoever sends one repeats it.
if [[ -z ${FWL_SIGNALS_WAIT:-} && ${2:-} == train ]]; then
  trap '' USR1 USR2
  if env --block-signal=USR1 true 2>/dev/null; then
    FWL_SIGNALS_WAIT=1 exec env --default-signal=USR1,USR2 --block-signal=USR1,USR2,HUP,TERM,INT "$BASH" "$0" "$@"
  fi
fi
unset FWL_SIGNALS_WAIT
set -euo pipefail
# shellcheck source=launch/cores.sh
. "$(dirname "${BASH_SOURCE[0]}")/cores.sh"

# ---- who am I

# tasks_of_node LIST INDEX: SLURM_STEP_TASKS_PER_NODE is written like "4(x2),3".
tasks_of_node() {
  local part repeat index=$2
  for part in ${1//,/ }; do
    repeat=1
    if [[ $part == *"(x"* ]]; then repeat=${part##*x} && repeat=${repeat%)}; fi
    if ((index < repeat)); then echo "${part%%(*}" && return; fi
    index=$((index - repeat))
  done
  echo 1
}

# The nearest launcher's own variables come first: under mpirun, Slurm's describe mpirun's daemons.
rank=0 ranks=1
for names in OMPI_COMM_WORLD_LOCAL_RANK/OMPI_COMM_WORLD_LOCAL_SIZE MPI_LOCALRANKID/MPI_LOCALNRANKS \
  MV2_COMM_WORLD_LOCAL_RANK/MV2_COMM_WORLD_LOCAL_SIZE PALS_LOCAL_RANKID/PALS_LOCAL_SIZE PMI_LOCAL_RANK/PMI_LOCAL_SIZE \
  SLURM_LOCALID/ FLUX_TASK_LOCAL_ID/ PMIX_LOCAL_RANK/PMIX_LOCAL_SIZE; do
  of_rank=${names%/*} of_size=${names#*/}
  [[ ${!of_rank:-} =~ ^[0-9]+$ ]] || continue
  rank=${!of_rank}
  case $of_rank in
    SLURM_LOCALID) ranks=$(tasks_of_node "${SLURM_STEP_TASKS_PER_NODE:-1}" "${SLURM_NODEID:-0}") ;;
    FLUX_TASK_LOCAL_ID) ranks=$(((${FLUX_JOB_SIZE:-1} + ${FLUX_JOB_NNODES:-1} - 1) / ${FLUX_JOB_NNODES:-1})) ;;
    *) ranks=${!of_size:-} ;;
  esac
  break
done
# A launcher that names no size: at least as many as this rank's number says.
[[ $ranks =~ ^[1-9][0-9]*$ ]] && ((ranks > rank)) || ranks=$((rank + 1))

# ---- cores

# expand LIST: "0-2,5" -> 0 1 2 5, one a line.
expand() {
  local part
  for part in ${1//,/ }; do seq "${part%-*}" "${part#*-}"; done
}

# by_core CPU...: "CORE CPU" lines, ordered so that the hardware threads of a core are neighbours.
by_core() {
  local cpu siblings
  for cpu in "$@"; do
    siblings=$cpu
    { read -r siblings <"/sys/devices/system/cpu/cpu$cpu/topology/thread_siblings_list"; } 2>/dev/null || true
    printf '%s %s\n' "${siblings%%[,-]*}" "$cpu"
  done | sort -n -k1,1 -k2,2
}

# NUMA node of every GPU, in the order of the CUDA runtime with CUDA_DEVICE_ORDER=PCI_BUS_ID; -1: unknown.
gpu_nodes() {
  local bus node
  nvidia-smi --query-gpu=pci.bus_id --format=csv,noheader 2>/dev/null | while read -r bus; do
    node=-1
    bus=${bus,,}
    { read -r node <"/sys/bus/pci/devices/${bus: -12}/numa_node"; } 2>/dev/null || true
    echo "$node"
  done
}

mapfile -t allowed < <(expand "$(taskset -cp $$ | sed 's/.*: *//')")
share_of=$ranks share=$rank
if command -v nvidia-smi >/dev/null; then
  mapfile -t nodes < <(gpu_nodes)
  if ((${#nodes[@]} >= ranks)) && ((nodes[rank] >= 0)); then
    mapfile -t near < <(comm -12 <(printf '%s\n' "${allowed[@]}" | sort) \
      <(expand "$(cat "/sys/devices/system/node/node${nodes[rank]}/cpulist")" | sort) | sort -n)
    same=0 before=0
    for ((i = 0; i < ranks; i++)); do
      ((nodes[i] == nodes[rank])) || continue
      same=$((same + 1))
      if ((i < rank)); then before=$((before + 1)); fi
    done
    if ((${#near[@]} >= same)); then allowed=("${near[@]}") share_of=$same share=$before; fi
  fi
fi
mapfile -t cores < <(by_core "${allowed[@]}" | cut -d' ' -f1 | uniq)

given=${#cores[@]} bind=1
if [[ -n ${SLURM_CPUS_ON_NODE:-} ]] && ((SLURM_CPUS_ON_NODE < ${#allowed[@]})); then given=$SLURM_CPUS_ON_NODE bind=; fi
if ((given < share_of)) || [[ ${FWL_BIND:-} == none ]]; then bind=; fi
first=$((given * share / share_of)) last=$((given * (share + 1) / share_of))
threads=$((last > first ? last - first : 1))
quota=$(cpu_quota)
if [[ -n $quota ]] && ((quota / ranks < threads)); then threads=$((quota > ranks ? quota / ranks : 1)); fi
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$threads}
# Ranks that share cores must not spin while they wait (core/base/waiting.h).
if ((given < share_of)) && [[ ${FWL_WAIT:-auto} == auto ]]; then export FWL_WAIT=passive; fi
[[ -n $bind ]] || exec "$@"

mine=" ${cores[*]:first:last-first} "
cpus=$(by_core "${allowed[@]}" | while read -r core cpu; do
  if [[ $mine == *" $core "* ]]; then printf '%s,' "$cpu"; fi
done)
exec taskset -c "${cpus%,}" "$@"
