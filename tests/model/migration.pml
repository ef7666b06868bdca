/* SPDX-License-Identifier: Apache-2.0 */
/*
 * migration.pml: who decides what in a migration, and what follows when any of them dies, in any order.
 *
 * Processes are those of the code: driver (driver.py), page server (page_server.py, dump_proxy.c) and its guardian
 * (dump_guardian.c), criu dump and restore, agent and keeper (agent.py, keeper.py), daemon and the guardian of its
 * userfaultfds (uffd_guardian.c), both hosts and their kernels. States are those of state.py (State), phases those of
 * dump_guardian.h. An operator does what `--status` advises whenever nothing moves any more. Memory is one page: missing
 * until the daemon has it.
 *
 * FAULTS deaths happen, anywhere. Time limits are choices that can be made at any time. SIGSTOP is a process that takes
 * its time, which each of them may do here anyway.
 *
 * Faulty orders of steps, each of which must violate a property (test_model.py):
 *   OLD_CHECK_BEFORE_AWAIT     the driver looks whether the dump lives, then waits for the page server, then says "go"
 *   OLD_FULL_DISK_IS_UNDECIDED what fails once the page server holds, as ALLOWED's record does on a full disk, rolls nothing back
 *   NO_DURABLE_ALLOWED         ALLOWED need not be on disk before "go"
 *   NO_FENCE                   the source task runs when criu dump dies
 *   NO_BYTE_AHEAD              the dump hears a clean end when page server and guardian die
 *   LATE_BYTE                  it does so until the page server is connected, which it is when the dump serves
 *   OLD_DEATH_IS_DRAINED       a restored task that was killed counts as one that misses nothing
 *   OLD_STATUS_BY_ABSENCE      nobody answers and the source task is not there: committed
 *   NO_LOOK                    `committed` is said when criu dump has ended, whatever it did to the source task
 *   NO_COMMITTING              CLOSE is sent before "committing" is on disk
 *   OLD_SECOND_FENCE           the next page server fences the source task anew, and undoes that if the dump is dead
 *   KILLS_WHAT_IS_STOPPED      without a dump the page server kills the source task before every page has arrived
 */

#ifndef FAULTS
#define FAULTS 2
#endif

/* migration/state.py: State. */
mtype:state = { PREFLIGHT, DUMPING, SERVING, RESTORING, ALLOWED, RUNNING, DRAINED, COMMITTING, COMMITTED, ROLLED_BACK,
		UNDECIDED };
/* source/dump_guardian.h: enum cl_dump_guardian_phase. */
mtype:phase = { CL_DUMP_GUARDIAN_ROLLBACK, CL_DUMP_GUARDIAN_HOLD, CL_DUMP_GUARDIAN_COMMIT };
/* What the dump reads from its one connection. */
mtype:wire = { NOTHING, CLOSE, NONSENSE };
mtype:op = { NONE, OP_RUNNING, OP_COMMIT, OP_ABORT_FORCE };
mtype:answer = { UNANSWERED, OK, REFUSED };
/* S_STOPPED: the fence's SIGSTOP took effect. */
mtype:source = { S_RUNS, S_FROZEN, S_STOPPED, S_GONE };
/* T_KILLED, T_EXITED: after it ran. T_HALF: restored, not resumed. */
mtype:restored = { T_NONE, T_HALF, T_RUNS, T_KILLED, T_EXITED };
/* How the daemon ended. */
mtype:end = { NOT_ENDED, ENDED_0, ENDED_4, ENDED_BADLY };

/* Who lives. */
bool driver = true, server, guardian, dump, agent = true, keeper = true, daemon, uffd_guardian, restore;
bool dumped;             /* criu dump was started */
bool link_up = true, disk_full, src_rebooted;

mtype:source source = S_RUNS;
mtype:restored restored = T_NONE;
bool fenced;             /* SIGSTOP is pending on the traced source task */
bool missing = true;     /* the page is at the source only */
bool zeroed;             /* daemon and uffd_guardian died: the kernel gives a zero page */
bool source_killed;      /* by somebody else */

/* The source. */
mtype:phase phase = CL_DUMP_GUARDIAN_ROLLBACK;
mtype:wire wire = NOTHING;
bool ahead;              /* the first byte of a header that never comes was sent */
bool drained;            /* the daemon said CLOSE to the page server */
mtype:op op = NONE;      /* one request at the control socket at a time */
mtype:answer answer = UNANSWERED;
mtype:state journal = PREFLIGHT, disk = PREFLIGHT; /* as read now, and after a reboot */
mtype:state said = PREFLIGHT; /* the last word of `migrate`; PREFLIGHT: none yet */
bool lifeline = true;    /* its end, the driver's, is open */
bool went;               /* "go" was sent */
bool committing;         /* on disk: CLOSE may be sent */
bool driver_buried;      /* nothing that it asked for is under way */
bool sigint;

/* The destination. */
bool want_daemon, want_restore, asked, restored_said, failed_said, may_run_said;
bool running;            /* agent.py: Made.running, as the keeper knows it */
bool gate;               /* criu restore may resume */
mtype:end daemon_end = NOT_ENDED;
bool lost;               /* the daemon told the page server, which this dies with, that a restored task was killed */
byte faults = FAULTS;
bool pause;              /* no more faults until the operator does something */
#define FAULT (faults > 0 && !pause)

bool two_run, lost_by_us, untrue_word, untrue_status, no_way_out;

#define NOTHING_MISSES (!missing || restored == T_EXITED)
/* Without the dump, the fence holds the source task, and the page server sends and commits from that. */
#define HELD_BY_FENCE (!dump && fenced && source == S_STOPPED && phase != CL_DUMP_GUARDIAN_ROLLBACK)
#define NOBODY_SERVES (!dump && !server && !guardian)
/* How the daemon ended is told by its agent; that it is a loss, by the page server as well. */
#define HEARS_OF_LOSS ((agent && link_up && daemon_end > ENDED_0) || (server && lost))
#define IS_FINAL(x) (x == COMMITTED || x == ROLLED_BACK)

/* ---- the kernel of the source ---- */

inline let_go()
{
	if
	:: source == S_FROZEN && fenced -> source = S_STOPPED
	:: source == S_FROZEN && !fenced -> source = S_RUNS
	:: else
	fi
}

/* SIGCONT: no SIGSTOP is pending any more. */
inline lift()
{
	fenced = false;
	if
	:: source == S_STOPPED -> source = S_RUNS
	:: else
	fi
}

/* ---- the source ---- */

active proctype Dump()
{
end_dump:
	do
	:: atomic { dump && wire == CLOSE ->
		dump = false; source = S_GONE }
	:: atomic { dump && wire == CLOSE -> /* -R in its configuration, or it fails in its last step */
		dump = false; let_go() }
	:: atomic { dump && wire == NONSENSE ->
		dump = false; let_go() }
	:: atomic { dump && wire == NOTHING && !server && !guardian -> /* the kernel ends the connection */
		dump = false;
		if
		:: ahead -> let_go() /* in the middle of a header */
		:: !ahead -> source = S_GONE
		fi }
	:: atomic { !dump && source == S_FROZEN -> let_go() } /* it was killed: later than its sockets are closed */
	od
}

active proctype Page_server()
{
end_dead:
	do
	:: server ->
		{
#ifdef LATE_BYTE
		if
		:: atomic { journal == SERVING && dump && !guardian -> ahead = true; guardian = true }
		:: !lifeline || !dump
		:: journal != PREFLIGHT && journal != DUMPING && journal != SERVING
		fi;
#else
		true;
#endif
#ifdef OLD_SECOND_FENCE
		if
		:: phase != CL_DUMP_GUARDIAN_ROLLBACK && !dump -> lift()
		:: else
		fi;
#endif
end_serving:
		do
		:: op == OP_RUNNING && answer == UNANSWERED ->
			phase = CL_DUMP_GUARDIAN_HOLD;
#ifndef NO_FENCE
			fenced = true;
#endif
			if
			:: atomic { dump && source == S_FROZEN -> answer = OK }
			:: !dump || source != S_FROZEN ->
				lift(); phase = CL_DUMP_GUARDIAN_ROLLBACK; answer = REFUSED
			fi
		:: op == OP_COMMIT && answer == UNANSWERED ->
			if
			:: !drained -> answer = REFUSED
			:: drained ->
				phase = CL_DUMP_GUARDIAN_COMMIT;
				if
				:: atomic { dump -> wire = CLOSE }
				:: !dump
				fi;
				!dump && source != S_FROZEN;
				if
				:: atomic { HELD_BY_FENCE -> source = S_GONE } /* the dump was dead, or died before it did so */
				:: true /* it has answered */
				fi;
				answer = OK
			fi
#ifdef KILLS_WHAT_IS_STOPPED
		:: atomic { HELD_BY_FENCE && op == NONE -> source = S_GONE }
#endif
		:: op == OP_ABORT_FORCE && answer == UNANSWERED && phase == CL_DUMP_GUARDIAN_COMMIT -> answer = REFUSED
		:: op == OP_ABORT_FORCE && answer == UNANSWERED && phase != CL_DUMP_GUARDIAN_COMMIT ->
			lift(); phase = CL_DUMP_GUARDIAN_ROLLBACK;
			if
			:: wire == NOTHING -> wire = NONSENSE
			:: else
			fi;
			!dump; answer = OK
		:: !lifeline && phase == CL_DUMP_GUARDIAN_ROLLBACK && dump && wire == NOTHING ->
			if
			:: atomic { phase == CL_DUMP_GUARDIAN_ROLLBACK -> wire = NONSENSE }
			:: else
			fi
		:: atomic { dumped && !dump && op == NONE && source != S_FROZEN && !HELD_BY_FENCE ->
			server = false; guardian = false }
		od } unless { !server }
	od
}

active proctype Guardian()
{
end_guardian:
	do
	:: atomic { guardian && !server && dumped && !dump && phase != CL_DUMP_GUARDIAN_ROLLBACK -> server = true }
	:: guardian && !server && dump ->
		{ if
		:: atomic { phase == CL_DUMP_GUARDIAN_ROLLBACK && wire == NOTHING -> wire = NONSENSE; guardian = false }
		:: atomic { phase == CL_DUMP_GUARDIAN_HOLD && wire == NOTHING -> server = true }
		:: atomic { phase == CL_DUMP_GUARDIAN_COMMIT && wire == NOTHING -> server = true }
		:: atomic { wire != NOTHING -> guardian = false } /* it is read to its end */
		fi } unless { !guardian || server || !dump }
	:: atomic { guardian && dumped && !dump && phase == CL_DUMP_GUARDIAN_ROLLBACK -> guardian = false }
	od
}

inline record(new)
{
	atomic { journal = new; disk = new }
}

/* As a state is entered whose record need not be on disk: after a reboot either may be read. */
inline note(new)
{
	atomic {
		journal = new;
		if
		:: disk = new
		:: skip
		fi
	}
}

inline ask(what)
{
	atomic { server && op == NONE -> op = what; answer = UNANSWERED }
}

#define NO_HOST (!agent || !link_up)

active proctype Driver()
{
	{
	atomic { server = true; record(PREFLIGHT) }
	record(DUMPING);
	if
#ifdef LATE_BYTE
	:: server
#elif defined(NO_BYTE_AHEAD)
	:: atomic { server -> guardian = true }
#else
	:: atomic { server -> guardian = true; ahead = true }
#endif
	:: !server -> goto roll_back
	fi;
	atomic { dump = true; dumped = true; source = S_FROZEN };
	if
	:: server && dump -> note(SERVING)
	:: !dump || !server || NO_HOST || sigint -> goto roll_back
	fi;
	want_daemon = true;
	if
	:: daemon -> note(RESTORING)
	:: !dump || !server || NO_HOST || sigint -> goto roll_back
	fi;
	want_restore = true;
	if
	:: asked
	:: !dump || !server || NO_HOST || sigint || failed_said || daemon_end != NOT_ENDED -> goto roll_back
	fi;
#ifdef OLD_CHECK_BEFORE_AWAIT
	if
	:: dump
	:: !dump -> goto roll_back
	fi;
#endif
	if
	:: ask(OP_RUNNING)
	:: !dump || (!server && !guardian) || sigint -> goto roll_back
	fi;
	if
	:: atomic { answer == OK -> op = NONE; answer = UNANSWERED }
#ifdef OLD_CHECK_BEFORE_AWAIT
	:: atomic { answer == REFUSED -> op = NONE; answer = UNANSWERED }
#else
	:: atomic { answer == REFUSED -> op = NONE; answer = UNANSWERED; goto roll_back }
	:: atomic { !server && answer == UNANSWERED -> op = NONE; goto roll_back }
#endif
	fi;
	if
#ifdef OLD_FULL_DISK_IS_UNDECIDED
	:: disk_full -> goto undecided
#else
	:: disk_full -> goto roll_back
#endif
	:: !disk_full ->
#ifdef NO_DURABLE_ALLOWED
		note(ALLOWED)
#else
		record(ALLOWED)
#endif
	fi;
#ifndef OLD_CHECK_BEFORE_AWAIT
	if
	:: dump && !sigint
	:: !dump || NO_HOST || sigint -> goto roll_back
	fi;
#endif
	went = true;
	if
	:: restored_said -> note(RUNNING)
	:: failed_said -> goto roll_back
	:: may_run_said || NO_HOST || NOBODY_SERVES || sigint || HEARS_OF_LOSS -> goto undecided
	fi;
	/* Whoever passes the daemon's word on may be lost; the page server has it from the daemon itself. */
	if
	:: drained
	:: NOBODY_SERVES || sigint || HEARS_OF_LOSS -> goto undecided
	fi;
	note(DRAINED);
#ifndef NO_COMMITTING
	if
	:: disk_full -> goto undecided
	:: atomic { !disk_full -> committing = true; record(COMMITTING) }
	fi;
#endif
	do
	:: ask(OP_COMMIT) -> break
	:: NOBODY_SERVES -> break
	:: sigint -> goto undecided
	od;
	do
	:: atomic { answer == OK -> op = NONE; answer = UNANSWERED; break }
	:: atomic { answer == REFUSED -> op = NONE; answer = UNANSWERED; goto undecided }
	:: atomic { NOBODY_SERVES -> op = NONE; answer = UNANSWERED; break }
	:: sigint && !NOBODY_SERVES -> goto undecided
	od;
#ifdef NO_LOOK
	goto committed;
#endif
	if
	:: source == S_GONE -> goto committed
	:: atomic { source == S_STOPPED && NOBODY_SERVES -> source = S_GONE; goto committed } /* nobody else would kill it */
	:: source != S_GONE -> goto undecided
	fi;
committed:
	atomic { said = COMMITTED; record(COMMITTED); driver = false };
roll_back:
	lifeline = false;
	op = NONE;
	do
	:: atomic { (phase != CL_DUMP_GUARDIAN_ROLLBACK || fenced) && server && op == NONE ->
		op = OP_ABORT_FORCE; answer = UNANSWERED }
	:: atomic { op == OP_ABORT_FORCE && (answer != UNANSWERED || !server) -> op = NONE; answer = UNANSWERED }
	:: atomic { !dump && source != S_FROZEN -> op = NONE; lift(); break }
	od;
	atomic { said = ROLLED_BACK; record(ROLLED_BACK); driver = false };
undecided:
	atomic { said = UNDECIDED; note(UNDECIDED); lifeline = false; driver = false };
	} unless { !driver };
	/* What a dead one asked for is heard all the same: it may have been read already. */
	lifeline = false;
	if
	:: op != NONE -> !server || answer != UNANSWERED; op = NONE; answer = UNANSWERED
	:: else
	fi;
	driver_buried = true
}

/* ---- the destination ---- */

inline undo()
{
	atomic { restored = (restored == T_HALF -> T_NONE : restored); restore = false; daemon = false; uffd_guardian = false;
		agent = false; keeper = false }
}

active proctype Agent()
{
	{ true;
end_agent:
	do
	:: atomic { want_daemon && link_up && driver -> daemon = true; uffd_guardian = true; want_daemon = false }
	:: atomic { want_restore && link_up && driver -> restore = true; restored = T_HALF; want_restore = false }
	:: atomic { restored == T_HALF && restore && !asked && link_up -> asked = true }
	:: went && link_up && !running && restore && !failed_said ->
		running = true; /* and the keeper is told */
		gate = true
	:: !running && (!driver || !link_up) -> break /* the end of its input, or silence */
	:: atomic { asked && !restore && !gate && restored != T_RUNS && !failed_said && link_up ->
		restored = T_NONE; failed_said = true; running = false }
	:: atomic { gate && !restore && link_up && !restored_said && restored != T_NONE -> restored_said = true }
	:: atomic { gate && !restore && link_up && restored == T_NONE && !may_run_said -> may_run_said = true }
	:: atomic { running && !daemon && daemon_end == NOT_ENDED && !want_daemon ->
		if
		:: uffd_guardian -> daemon = true /* a successor */
		:: !uffd_guardian -> daemon_end = ENDED_BADLY
		fi }
	:: atomic { asked && !running && !daemon && daemon_end == NOT_ENDED -> daemon_end = ENDED_BADLY }
	od;
	undo() } unless { !agent }
}

active proctype Keeper()
{
	{ true;
end_keeper:
	!agent -> if
	:: !running -> undo()
	:: running
	fi } unless { !keeper }
}

active proctype Restore()
{
end_restore:
	do
	:: restore && gate && restored == T_HALF ->
		atomic { restore -> restored = T_RUNS; restore = false } unless { !restore }
	:: atomic { restore && !gate && !agent -> restored = T_NONE; restore = false } /* nobody says "go" in time */
	od
}

active proctype Daemon()
{
end_daemon:
	do
	:: atomic { daemon && restored == T_RUNS && missing && !zeroed && link_up && server &&
		((dump && wire == NOTHING && (source == S_FROZEN || source_killed)) || HELD_BY_FENCE) -> missing = false }
	:: atomic { daemon && ((restored == T_RUNS && !missing) || restored == T_EXITED) && link_up && server ->
		drained = true; daemon = false; uffd_guardian = false; daemon_end = ENDED_0 }
	:: atomic { daemon && restored == T_KILLED && daemon_end == NOT_ENDED && (link_up || missing) ->
#ifdef OLD_DEATH_IS_DRAINED
		drained = true; daemon_end = ENDED_0;
#else
		if
		:: missing -> daemon_end = ENDED_4; lost = link_up && server
		:: !missing && server -> drained = true; daemon_end = ENDED_0
		:: !missing && !server -> daemon_end = ENDED_BADLY
		fi;
#endif
		daemon = false; uffd_guardian = false }
	:: atomic { !daemon && !uffd_guardian && restored == T_RUNS && missing && !zeroed -> zeroed = true }
	od
}

/* ---- faults ---- */

active proctype Faults()
{
end_faults:
	do
	:: atomic { FAULT -> pause = true }
	:: atomic { FAULT && driver -> driver = false; faults-- }
	:: atomic { FAULT && server -> server = false; lost = false; faults-- }
	:: atomic { FAULT && guardian -> guardian = false; faults-- }
	:: atomic { FAULT && dump -> dump = false; faults-- }
	:: atomic { FAULT && agent -> agent = false; faults-- }
	:: atomic { FAULT && keeper -> keeper = false; faults-- }
	:: atomic { FAULT && daemon -> daemon = false; faults-- }
	:: atomic { FAULT && uffd_guardian -> uffd_guardian = false; faults-- }
	:: atomic { FAULT && restore -> restore = false; faults--;
		if
		:: gate && restored == T_HALF -> restored = T_RUNS /* its tracees are let go */
		:: gate && restored == T_HALF -> restored = T_NONE
		:: else
		fi }
	:: atomic { FAULT && link_up -> link_up = false; faults-- }
	:: atomic { FAULT && !disk_full && !IS_FINAL(journal) -> disk_full = true; faults-- }
	:: atomic { FAULT && restored == T_RUNS && !IS_FINAL(journal) && source != S_GONE ->
		restored = T_KILLED; faults-- }
	:: atomic { FAULT && restored == T_RUNS && !IS_FINAL(journal) && source != S_GONE ->
		restored = T_EXITED; faults-- }
	:: atomic { FAULT && source != S_GONE && !IS_FINAL(journal) ->
		source = S_GONE; source_killed = true; faults-- }
	:: atomic { FAULT && !src_rebooted && !IS_FINAL(journal) -> faults--; src_rebooted = true;
		driver = false; server = false; guardian = false; dump = false; source = S_GONE; journal = disk }
	:: atomic { FAULT && !IS_FINAL(journal) && (agent || restored != T_NONE) -> faults--;
		agent = false; keeper = false; daemon = false; uffd_guardian = false; restore = false;
		restored = (restored == T_RUNS -> T_KILLED : (restored == T_HALF -> T_NONE : restored)) }
	od
}

/* ---- the operator ---- */

/*
 * operator_commands.py: what --status says of a migration that nobody drives: what was recorded, and what is there. Whatever is in no
 * list is told as it stands, and how to go on: UNDECIDED.
 */
#define OWNERLESS (!IS_FINAL(journal) && !driver)
#define LET_RUN (journal == ALLOWED || journal == RUNNING || journal == DRAINED || journal == COMMITTING || journal == UNDECIDED)
#ifdef OLD_STATUS_BY_ABSENCE
#define TOLD_COMMITTED (journal == COMMITTED || (OWNERLESS && LET_RUN && source == S_GONE && !dump && !server && !guardian))
#else
#define TOLD_COMMITTED (journal == COMMITTED || (OWNERLESS && committing && source == S_GONE && !dump))
#endif
/* Only who lifts the fence lets it run again. */
#define TOLD_ROLLED_BACK (journal == ROLLED_BACK || (OWNERLESS && source == S_RUNS && !dump))
#define TOLD_GONE_WITH_HOST (OWNERLESS && src_rebooted && !LET_RUN)
#define TOLD_LOST (OWNERLESS && source == S_GONE && !dump && !TOLD_COMMITTED && !TOLD_GONE_WITH_HOST)
#define TOLD_AN_END (TOLD_COMMITTED || TOLD_ROLLED_BACK || TOLD_GONE_WITH_HOST || TOLD_LOST)

inline do_abort()
{
	/* It is looked at the destination first: nothing of it is left there. */
	atomic { restored = (restored == T_RUNS -> T_KILLED : (restored == T_HALF -> T_NONE : restored));
		restore = false; gate = false }
	do
	:: ask(OP_ABORT_FORCE) -> answer != UNANSWERED || !server; op = NONE; answer = UNANSWERED
	:: !dump && source != S_FROZEN -> break
	od;
	atomic { lift(); record(ROLLED_BACK) }
}

active proctype Operator()
{
look:
	do
	:: timeout ->
		pause = false;
		if
		:: atomic { !link_up -> link_up = true }
		:: link_up && driver -> sigint = true; driver_buried
		:: link_up && driver_buried -> atomic {
			disk_full = false;
			if
			:: TOLD_AN_END -> break
			:: !TOLD_AN_END && drained && server -> committing = true; record(COMMITTING); goto commit
			:: !TOLD_AN_END && !drained && uffd_guardian && !daemon && restored == T_RUNS && server ->
				daemon = true /* lazy-pages --resume */
			:: !TOLD_AN_END && committing && !dump && source == S_STOPPED ->
				source = S_GONE; record(COMMITTED); break /* --commit --force kills it */
			:: else -> goto abort
			fi }
		fi
	od;
	goto settled;
commit:
	if
	:: ask(OP_COMMIT)
	:: !server -> goto look
	fi;
	answer != UNANSWERED || !server; op = NONE; answer = UNANSWERED;
	if
	:: atomic { source == S_GONE -> record(COMMITTED) }
	:: else -> goto look
	fi;
	goto settled;
abort:
	do_abort();
settled:
	timeout;
	atomic {
		no_way_out = !(source == S_RUNS || restored == T_RUNS || restored == T_EXITED || source_killed ||
			src_rebooted || (restored == T_KILLED && !missing));
		assert(!no_way_out)
	}
}

/* ---- the properties, in every state ---- */

#define BY_US (source == S_GONE && !source_killed && !src_rebooted)
#define NOT_COMMITTED (source != S_GONE || !NOTHING_MISSES)
#define NOT_ROLLED_BACK (source == S_FROZEN || source == S_STOPPED || restored == T_RUNS)

active proctype Monitor()
{
end_monitor:
	if
	:: atomic { source == S_RUNS && restored == T_RUNS -> two_run = true; assert(!two_run) }
	:: atomic { BY_US && !NOTHING_MISSES -> lost_by_us = true; assert(!lost_by_us) }
	:: atomic { (said == COMMITTED && NOT_COMMITTED) || (said == ROLLED_BACK && NOT_ROLLED_BACK) ||
		(said == UNDECIDED && !went) -> untrue_word = true; assert(!untrue_word) }
	:: atomic { (TOLD_COMMITTED && NOT_COMMITTED) || (TOLD_ROLLED_BACK && NOT_ROLLED_BACK) ||
		(TOLD_GONE_WITH_HOST && restored == T_RUNS) || (TOLD_LOST && BY_US) -> untrue_status = true; assert(!untrue_status) }
	fi
}
