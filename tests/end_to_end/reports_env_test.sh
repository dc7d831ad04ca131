#!/usr/bin/env bash
# What the environment may hold: words for the log, threads and waiting, a CPU quota, hostfiles, variables that ranks on
# other hosts need, launchers. Tables of what users of such systems have reported. Arguments: FWL_BINARY SOURCE_DIR.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../support/shell_test.sh"
cd "$work"
start=$source/launch/mpirun.sh
bind=$source/launch/bind_rank.sh
tiny=$source/launch/configs/tiny.yaml
corpus text 8 --bytes 1200
"$fwl" tokenize text --tokenizer byte --out data >/dev/null
train=("$fwl" train "$tiny" --set data.path=data --set train.device=cpu --set train.steps=1 --set model.context=64 --set train.global_batch=2)

echo "== FWL_LOG in any case; empty is unset; no other word"
for word in INFO Debug warning WARN error Off ''; do
  code=0
  FWL_LOG=$word "$fwl" train none.yaml >out 2>&1 || code=$?
  [[ $code == 2 ]] || fail "FWL_LOG='$word': exit code $code"
  case $word in
    Off) ! grep -q 'none.yaml' out || fail "FWL_LOG=Off says something" ;;
    *) grep -q 'none.yaml' out || fail "FWL_LOG='$word' hides the error" ;;
  esac
done
for word in verbose 3 'info '; do ends 2 "log level '$word' does not exist" env FWL_LOG="$word" "$fwl" train none.yaml; done
ends 2 "log level 'loud' does not exist" env FWL_LOG=loud "$fwl" inspect none
ends 0 "Exit codes" env FWL_LOG= "$fwl" --help
echo "ok: words for the log"

echo "== threads and how they wait, in the log's first line"
for text in two 0 -1 2x 4, 1.5 '2 2'; do ends 2 "OMP_NUM_THREADS='$text' is no number of threads" env OMP_NUM_THREADS="$text" "${train[@]}" --set run.dir=bad; done
[[ ! -e bad ]] || fail "a run was begun with a bad OMP_NUM_THREADS"
ends 2 "FWL_WAIT='sleepy' does not exist" env FWL_WAIT=sleepy "${train[@]}" --set run.dir=bad
more=$(($(env -u OMP_NUM_THREADS nproc) + 1))
while IFS='|' read -r settings first; do
  read -ra pairs <<<"$settings"
  env "${pairs[@]}" "${train[@]}" --set run.dir=run >out 2>&1 || fail "$settings: exit code $?"
  # libgomp itself complains of an empty variable, before anybody can help it.
  grep -m 1 '^\[' out | grep -qE -- "$first" || fail "$settings: the log begins with '$(head -n 1 out)', not '$first'"
  rm -rf run
done <<T
OMP_NUM_THREADS=1 FWL_WAIT=passive|1 thread \(OMP_NUM_THREADS; [0-9]+ cores?.*\), waiting passively \(FWL_WAIT\)
OMP_NUM_THREADS=3 FWL_WAIT=Passive|3 threads .*, waiting passively \(FWL_WAIT\)
OMP_NUM_THREADS=2 FWL_WAIT=ACTIVE|2 threads .*, waiting actively \(FWL_WAIT\)
OMP_NUM_THREADS=2 FWL_WAIT= OMP_WAIT_POLICY=PASSIVE|waiting passively \(OMP_WAIT_POLICY\)
OMP_NUM_THREADS=2 OMP_WAIT_POLICY=active|waiting actively \(OMP_WAIT_POLICY\)
OMP_NUM_THREADS=2 GOMP_SPINCOUNT=7 FWL_WAIT=passive|waiting passively \(FWL_WAIT\), OpenMP as GOMP_SPINCOUNT says
OMP_NUM_THREADS=$more FWL_WAIT=auto|$more threads .*, waiting passively \($more threads on [0-9]+ cores?\)
OMP_NUM_THREADS= FWL_WAIT=auto|^.* [0-9]+ threads? \([0-9]+ cores?.*\), waiting
T
taskset -c 0 env -u OMP_NUM_THREADS "${train[@]}" --set run.dir=run >out 2>&1 || fail "bound to one core"
grep -q ' 1 thread (1 core' out || fail "bound to one core: $(head -n 1 out)"
# OpenMP's library reads its variables while it is loaded: it must have been loaded with them. The program is looked at while
# it waits for its text, long after that.
mkfifo held
while IFS='|' read -r settings variable; do
  read -ra pairs <<<"$settings"
  env -u OMP_WAIT_POLICY -u GOMP_SPINCOUNT "${pairs[@]}" "$fwl" score nothing held >out 2>&1 &
  pid=$!
  # The opening ends when the program opens the other end.
  # shellcheck disable=SC2016
  timeout 30 bash -c 'exec 8>held; tr "\0" "\n" <"/proc/$0/environ"' "$pid" >environment || fail "$settings: it never opened its text"
  seen=$(grep -E '^(OMP_WAIT_POLICY|GOMP_SPINCOUNT)=' environment | sort | paste -sd, - || true)
  wait "$pid" || true
  [[ $seen == "$variable" ]] || fail "$settings: started with '$seen', not '$variable'"
done <<'T'
OMP_NUM_THREADS=2 FWL_WAIT=passive|OMP_WAIT_POLICY=passive
OMP_NUM_THREADS=2 FWL_WAIT=active|
OMP_NUM_THREADS=2 FWL_WAIT=passive GOMP_SPINCOUNT=5|GOMP_SPINCOUNT=5
OMP_NUM_THREADS=1 FWL_WAIT=passive|
T
echo "ok: threads and waiting"

echo "== a quota of CPU time"
group='' value=''
for try in /sys/fs/cgroup/cpu/fwl-test-$$ /sys/fs/cgroup/fwl-test-$$; do
  mkdir "$try" 2>/dev/null || continue
  group=$try
  if { echo 100000 >"$try/cpu.cfs_period_us" && echo 50000 >"$try/cpu.cfs_quota_us"; } 2>/dev/null || { echo '50000 100000' >"$try/cpu.max"; } 2>/dev/null; then
    value=1
    break
  fi
  rmdir "$try" && group=
done
if [[ -n $value ]]; then
  trap 'rmdir "$group" 2>/dev/null || true; rm -rf "$work"' EXIT
  mkdir "$group/inner"
  for place in "$group" "$group/inner"; do
    (echo $BASHPID >"$place/cgroup.procs" && exec env -u OMP_NUM_THREADS timeout 60 "${train[@]}" --set run.dir=quota) >out 2>&1 || fail "a run with a quota"
    grep -qE ' 1 thread \([0-9]+ cores?, of which a quota allows 0.5\), waiting passively' out || fail "$place: $(head -n 1 out)"
    [[ $(echo $BASHPID >"$place/cgroup.procs" && . "$source/launch/cores.sh" && cores) == 1 ]] || fail "launch/cores.sh does not see the quota"
    rm -rf quota
  done
  rmdir "$group/inner"
  echo "ok: a quota of half a core is one thread"
else
  echo "SKIPPED: no cgroup can be made here; the quota was tried on a tree of files alone (core_base_threads_test)"
fi

echo "== forms of a hostfile"
cat >program <<'S'
#!/usr/bin/env bash
echo "$OMP_NUM_THREADS ${FWL_WAIT:--} $(taskset -cp $$ | sed 's/.*: *//') $(awk '/^Sig(Blk|Ign):/ { print $2 }' /proc/$$/status | paste -sd' ')"
S
chmod +x program
mkdir folder
while IFS='|' read -r content code text; do
  printf '%b' "$content" >hosts
  ends "$code" "$text" env FWL="$work/program" "$start" --hostfile hosts -n 3 --dry-run doctor
done <<'T'
node1 max_slots=4 slots=2\n|2|-n 3 is more than the 2 slots
node1 slots=2 max-slots=4\n|2|-n 3 is more than the 2 slots
node1 max_slots=2\n|2|-n 3 is more than the 2 slots
node1 slots=2\r\nnode2 slots=2\r\n|0|--hostfile
node1 slots=2\r\n|2|-n 3 is more than the 2 slots
\0357\0273\0277node1 slots=2\n|2|-n 3 is more than the 2 slots
# c\n\n  node1   slots = 2  # x\n|2|-n 3 is more than the 2 slots
node1 slots=9 // nine\n/* node2\nslots=9 */ node3\tcpu=1|0|--hostfile
node1 count=2\nuser@10.0.0.2 slots=1 username=me\n|0|--hostfile
fe80::1 slots=4\n|0|--hostfile
+n0 slots=4\n^node7\n|0|--hostfile
+e:2\n|0|--hostfile
node1\nnode2\n|0|--hostfile
node1:8\nnode2:8\n|2|Write 'node1 slots=8'
10.0.0.1:4\n|2|Write '10.0.0.1 slots=4'
node1 8\n|2|line 1: '8' is no KEY=VALUE
node1 node2\n|2|'node2' is no KEY=VALUE
\nnode1 slots=two\n|2|line 2: slots=two is no number
node1 sloots=2\n|2|knows no 'sloots'
node1 slots=4 max_slots=2\n|2|max_slots=2 is below slots=4
node[1-4] slots=8\n|2|a list of hosts in short form
node1,node2\n|2|names several hosts
{"node1": 8}\n|2|is no name of a host
# nothing\n|2|names no host
|2|names no host
node1 slots=0\n|2|have no slot
T
ends 2 "'folder' is a folder" env FWL="$work/program" "$start" --hostfile folder -n 1 --dry-run doctor
ends 2 "cannot be read" env FWL="$work/program" "$start" --hostfile none --dry-run doctor
printf 'localhost slots=2\r\n' >hosts
ends 0 "$OMP_NUM_THREADS" env FWL="$work/program" "$start" --hostfile hosts -n 2 --no-check doctor
[[ $(wc -l <out) == 2 ]] || fail "not two ranks of a hostfile with carriage returns"
ends 0 "$OMP_NUM_THREADS" env FWL="$work/program" "$start" --hostfile <(printf 'localhost slots=1\n') --no-check doctor
echo "ok: hostfiles"

echo "== what reaches ranks on other hosts"
handed() { # the names after -x, of a dry run with the assignments given
  env "$@" FWL="$work/program" "$start" -n 2 --dry-run doctor | tr ' ' '\n' | grep -A1 -x -- -x | grep -vx -- '-x\|--'
}
for name in HDF5_PLUGIN_PATH HDF5_USE_FILE_LOCKING LD_LIBRARY_PATH OMPI_MCA_btl PMIX_MCA_psec PRTE_MCA_plm NCCL_DEBUG UCX_TLS FWL_WAIT \
  OMP_WAIT_POLICY GOMP_SPINCOUNT KMP_BLOCKTIME; do
  handed "$name=self,vader" | grep -qx "$name" || fail "$name is not passed on"
  [[ $(handed "$name=self,vader" | grep -cx "$name") == 1 ]] || fail "$name is passed on twice"
done
handed A=1 | grep -qx FWL_LAUNCHER || fail "the launcher's mark is not passed on"
for value in $'a\nNCCL_DOC=1' $'() { :\nUCX_DOC=1\n}'; do
  for name in X NCCL_X 'BASH_FUNC_f%%'; do
    ! handed "$name=$value" | grep -E '_DOC' || fail "a line of $name is taken for a variable"
  done
done
! handed HOME2=/x MY_NCCL_=1 | grep -E 'HOME2|MY_NCCL' || fail "too much is passed on"
ends 0 "btl_tcp_if_exclude" env FWL="$work/program" "$start" --hostfile hosts --dry-run doctor
env FWL="$work/program" OMPI_MCA_btl_tcp_if_include=lo OMPI_MCA_oob_tcp_if_exclude=eth9 "$start" --hostfile hosts --dry-run doctor >out
! grep -q -- '--mca' out || fail "the user's own interfaces are set again: $(cat out)"
# Open MPI's files of parameters: FILE|LINE|what the script still sets.
mkdir -p home/.openmpi
while IFS='|' read -r file line set; do
  rm -f home/.openmpi/mca-params.conf
  printf '%s\n' "$line" >"$file"
  env FWL="$work/program" HOME="$work/home" OMPI_MCA_mca_base_param_files="$([[ $file != own.conf ]] || echo "$work/none.conf,$work/own.conf")" \
    "$start" --hostfile hosts --dry-run doctor >out
  [[ $(grep -oE -- '--mca (btl|oob)_tcp_if_[a-z]+' out | sed 's/.*mca //' | paste -sd, -) == "$set" ]] || fail "$file: $line: $(cat out)"
done <<'T'
home/.openmpi/mca-params.conf|btl_tcp_if_include = ib0|oob_tcp_if_exclude
home/.openmpi/mca-params.conf|  btl_tcp_if_exclude=lo,eth9|oob_tcp_if_exclude
home/.openmpi/mca-params.conf|oob_tcp_if_include=ib0|btl_tcp_if_exclude
home/.openmpi/mca-params.conf|# btl_tcp_if_include = ib0|btl_tcp_if_exclude,oob_tcp_if_exclude
home/.openmpi/mca-params.conf|btl_tcp_if_include_more = ib0|btl_tcp_if_exclude,oob_tcp_if_exclude
own.conf|btl_tcp_if_include = ib0|oob_tcp_if_exclude
T
echo "ok: variables"

echo "== a rank's place, by launcher"
while IFS='|' read -r settings rank; do
  read -ra pairs <<<"$settings"
  env -u OMP_NUM_THREADS "${pairs[@]}" "$bind" ./program train >out 2>&1 || fail "$settings"
  read -r threads wait _ blocked ignored <out
  [[ $rank != over || $wait == passive ]] || fail "$settings: ranks that share cores do not wait passively ($(cat out))"
  # Until the program has its handlers, SIGUSR1 and SIGUSR2 wait or are ignored.
  [[ $threads -ge 1 && $(((0x$blocked | 0x$ignored) & 0xa00)) == $((0xa00)) ]] || fail "$settings: $(cat out): SIGUSR1 or SIGUSR2 would end a rank"
done <<'T'
A=1|0
OMPI_COMM_WORLD_LOCAL_RANK=0 OMPI_COMM_WORLD_LOCAL_SIZE=2 SLURM_LOCALID=7|0
OMPI_COMM_WORLD_LOCAL_RANK=999 OMPI_COMM_WORLD_LOCAL_SIZE=1000|over
MPI_LOCALRANKID=999 MPI_LOCALNRANKS=1000|over
PALS_LOCAL_RANKID=999 PMI_LOCAL_SIZE=1000|over
PMI_LOCAL_RANK=999 PMI_LOCAL_SIZE=1000|over
PMIX_LOCAL_RANK=999|over
SLURM_LOCALID=2 SLURM_NODEID=2 SLURM_STEP_TASKS_PER_NODE=4(x2),1000|over
FLUX_TASK_LOCAL_ID=3 FLUX_JOB_SIZE=4000 FLUX_JOB_NNODES=2|over
T
echo "ok: places"

echo "== options of train, before and after the config; a signal before anything runs"
export FWL=$fwl
for arguments in "$tiny --json out.json" "--json out.json $tiny" "--set train.seed=2 $tiny --json=out.json --allow-changes"; do
  read -ra words <<<"$arguments"
  rm -f out.json
  ends 0 'ok: config: hash' "$start" -n 1 train "${words[@]}" --set data.path=data --set train.device=cpu --set train.steps=1 --set run.dir=r45 --set model.context=64 --set train.global_batch=2
  [[ -s out.json ]] || fail "$arguments: no out.json"
done
# Signals at two places of the script: while it looks for GPUs, and while the ranks are checked. Each place tells by a file that
# it is reached.
mkdir stubs
printf '#!/bin/sh\n: >begun\nsleep 0.3\n' >stubs/nvidia-smi
cat >checked <<'S'
#!/usr/bin/env bash
[[ " $* " != *" --doctor "* ]] || { : >begun; exec sleep 20; }
: >trained
S
chmod +x stubs/nvidia-smi checked
# signalled SIGNAL COMMAND...: sends it once the file `begun` is there; into $code. (A shell's background job ignores SIGINT.)
signalled() {
  local signal=$1 i
  shift
  rm -f begun trained
  env --default-signal=INT,QUIT "$@" >out 2>&1 </dev/null &
  pid=$! code=0
  for ((i = 0; i < 600; i++)); do [[ ! -e begun ]] || break; sleep 0.05; done
  [[ -e begun ]] || fail "$*: nothing began"
  kill -"$signal" "$pid"
  wait "$pid" || code=$?
}
for signal in INT TERM HUP USR1 USR2; do
  for where in "before the first rank||" "while the ranks are checked|-n|1"; do
    IFS='|' read -r what option count <<<"$where"
    signalled "$signal" env PATH="$work/stubs:$PATH" FWL="$work/checked" "$start" ${option:+"$option" "$count"} train "$tiny"
    [[ $code == 75 && ! -e trained ]] || fail "SIG$signal $what: exit code $code"
    says "asked to end before anything was started" "SIG$signal $what"
  done
done
echo "ok: options and early signals"

echo "== train.sbatch, with stubs for Slurm: whose fault a check is, and early signals"
cat >stubs/srun <<'S'
#!/usr/bin/env bash
[[ $1 == --mpi=none ]] || { : >trained; exit 0; }
: >>checks
echo x >>checks
case $HEALTH in
  none) exit 1 ;;
  once) [[ $(wc -l <checks) == 1 ]] && exit 1; printf 'health n%d 0\n' 1 2 ;;
  sick) printf 'health n1 0\nhealth n2 1\n' ;;
  silent) printf 'health n1 0\n' ;;
  no-program) printf 'health n%d 127\n' 1 2 ;;
  *) printf 'health n%d 0\n' 1 2 ;;
esac
S
cat >stubs/scontrol <<'S'
#!/bin/sh
[ "$2" != hostnames ] || printf 'n1\nn2\n'
S
printf '#!/bin/sh\necho "Submitted batch job 8"\n' >stubs/sbatch
printf '#!/bin/sh\necho COMPLETING\n' >stubs/squeue
printf '#!/bin/sh\n: >begun\nsleep 0.3\nprintf "run:\\n  dir: %s\\n"\n' "$work/job" >planned
chmod +x stubs/* planned
sbatch=(env PATH="$work/stubs:$PATH" SLURM_SUBMIT_DIR="$work" SLURM_JOB_ID=7 SLURM_JOB_NAME=fwl SLURM_JOB_NODELIST='n[1-2]' SLURM_JOB_NUM_NODES=2
  SLURM_NTASKS=2 FWL="$work/planned" FWL_ROOT="$source" FWL_BACKOFF_S=0 bash "$source/slurm/train.sbatch" "$tiny")
while IFS='|' read -r health limit want excluded trained text; do
  rm -rf job checks trained
  code=0
  HEALTH=$health FWL_MAX_FAILURES=$limit "${sbatch[@]}" >out 2>&1 || code=$?
  cat job/slurm/job-7.log >>out
  [[ $code == "$want" ]] || fail "health '$health': exit code $code, not $want"
  [[ $(cut -d' ' -f2 job/slurm/excluded 2>/dev/null | paste -sd, -) == "$excluded" ]] || fail "health '$health': left out: $(cat job/slurm/excluded)"
  [[ $([[ ! -e trained ]] || echo trained) == "$trained" ]] || fail "health '$health': trained: '$trained' is wrong"
  says "$text" "health '$health'"
done <<'T'
fine|3|0||trained|training ended with 0
none|1|1|||the health check ran on no node
none|2|1|||2 failures without progress
once|3|0||trained|the health check ran on no node
no-program|1|1|||no node is to blame
sick|3|1|n2||a new job without n2
silent|3|1|n2||failed health checks: n2
T
for signal in INT TERM HUP USR1 USR2; do
  rm -rf job
  signalled "$signal" "${sbatch[@]}"
  [[ $code == 75 && ! -e trained ]] || fail "SIG$signal to train.sbatch before the check: exit code $code"
done
echo "ok: train.sbatch"

echo "== stdout that cannot be written, and readers that have seen enough"
"${train[@]}" --set run.dir=shown >out 2>&1 || fail "a run of one step"
# to WHERE COMMAND...: stdout goes to a full disk, nowhere (closed), or into a pipe that nobody reads; into $code, the rest into `out`.
to() {
  local where=$1
  shift
  code=0
  case $where in
    full) timeout 60 "$@" >/dev/full 2>out </dev/null || code=$? ;;
    closed) timeout 60 "$@" >&- 2>out </dev/null || code=$? ;;
    pipe)
      exec 7> >(:)
      wait $!
      timeout 60 "$@" >&7 2>out </dev/null || code=$?
      exec 7>&-
      ;;
  esac
}
while IFS= read -r words; do
  read -ra command <<<"$words"
  to full "$fwl" "${command[@]}"
  [[ $code == 3 ]] || fail "$words >/dev/full: exit code $code"
  says "standard output could not be written: No space left on device" "$words"
  to closed "$fwl" "${command[@]}"
  [[ $code == 3 ]] || fail "$words >&-: exit code $code"
  says "standard output could not be written: Bad file descriptor" "$words"
  to pipe "$fwl" "${command[@]}"
  [[ $code == 0 ]] || fail "$words | (nobody): exit code $code"
  ! grep -iqE 'error|warning|pipe|terminate' out || fail "$words | (nobody): it says something: $(cat out)"
done <<T
--help
--version
train $tiny --print-config
inspect shown
inspect shown --verify
data check data
plan $tiny --gpus 2
watch shown --once
score shown text/0000.txt --device cpu
generate shown --prompt a --max-tokens 3 --device cpu
T
# What else a command makes is whole, whatever becomes of its words; a text that nobody reads ends.
for where in full pipe; do
  rm -f made.json
  to "$where" "$fwl" generate shown --prompt a --max-tokens 3 --device cpu --json made.json
  python3 -c 'import json; assert json.load(open("made.json"))["continuations"][0]["tokens"]' || fail "$where: made.json"
done
to pipe "$fwl" generate shown --prompt a --max-tokens 100000000 --device cpu
[[ $code == 0 ]] || fail "a text without end, for nobody: exit code $code"
to closed "${train[@]}" --set run.dir=silent
[[ $code == 0 ]] || fail "training prints nothing: exit code $code"
"$fwl" inspect silent --verify >out 2>&1 || fail "a checkpoint of a run without stdout"
echo "ok: stdout"
echo "all checks passed"
