#!/usr/bin/env bash
# Runs one rank of a job: binds it to its share of the host's cores, then starts the program in its place.
#
#   mpirun --bind-to none ... launch/bind_rank.sh PROGRAM [ARGUMENTS]      (srun: with --cpu-bind=none)
#
# The cores that this process may use are cut evenly among the ranks of the host. Where every rank has a GPU, the ranks
# whose GPUs share a NUMA node cut that node's cores among them. Hardware threads of one core stay together.
# OMP_NUM_THREADS becomes the number of cores, unless it is set. FWL_BIND=none: only the threads are set. Nothing is bound
# where ranks outnumber cores, or where Slurm gave the job fewer CPUs than the process may use (others may run there).
set -euo pipefail

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

if [[ -n ${OMPI_COMM_WORLD_LOCAL_RANK:-} ]]; then
  rank=$OMPI_COMM_WORLD_LOCAL_RANK ranks=$OMPI_COMM_WORLD_LOCAL_SIZE
elif [[ -n ${SLURM_LOCALID:-} ]]; then
  rank=$SLURM_LOCALID ranks=$(tasks_of_node "${SLURM_STEP_TASKS_PER_NODE:-1}" "${SLURM_NODEID:-0}")
else
  rank=0 ranks=1
fi

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
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$threads}
# Ranks that share cores must not spin while they wait.
if ((given < share_of)); then export OMPI_MCA_mpi_yield_when_idle=${OMPI_MCA_mpi_yield_when_idle:-1}; fi
[[ -n $bind ]] || exec "$@"

mine=" ${cores[*]:first:last-first} "
cpus=$(by_core "${allowed[@]}" | while read -r core cpu; do
  if [[ $mine == *" $core "* ]]; then printf '%s,' "$cpu"; fi
done)
exec taskset -c "${cpus%,}" "$@"
