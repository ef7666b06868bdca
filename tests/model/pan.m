#define rand	pan_rand
#define pthread_equal(a,b)	((a)==(b))
#if defined(HAS_CODE) && defined(VERBOSE)
	#ifdef BFS_PAR
		bfs_printf("Pr: %d Tr: %d\n", II, t->forw);
	#else
		cpu_printf("Pr: %d Tr: %d\n", II, t->forw);
	#endif
#endif
	switch (t->forw) {
	default: Uerror("bad forward move");
	case 0:	/* if without executable clauses */
		continue;
	case 1: /* generic 'goto' or 'skip' */
		IfNotBlocked
		_m = 3; goto P999;
	case 2: /* generic 'else' */
		IfNotBlocked
		if (trpt->o_pm&1) continue;
		_m = 3; goto P999;

		 /* PROC Monitor */
	case 3: // STATE 1 - migration.pml:514 - [(((source==4)&&(restored==3)))] (19:0:1 - 1)
		IfNotBlocked
		reached[10][1] = 1;
		if (!(((now.source==4)&&(now.restored==3))))
			continue;
		/* merge: two_run = 1(19, 2, 19) */
		reached[10][2] = 1;
		(trpt+1)->bup.oval = ((int)now.two_run);
		now.two_run = 1;
#ifdef VAR_RANGES
		logval("two_run", ((int)now.two_run));
#endif
		;
		/* merge: assert(!(two_run))(19, 3, 19) */
		reached[10][3] = 1;
		spin_assert( !(((int)now.two_run)), " !(two_run)", II, tt, t);
		/* merge: .(goto)(0, 18, 19) */
		reached[10][18] = 1;
		;
		_m = 3; goto P999; /* 3 */
	case 4: // STATE 5 - migration.pml:515 - [(((((source==1)&&!(source_killed))&&!(src_rebooted))&&!((!(missing)||(restored==1)))))] (19:0:1 - 1)
		IfNotBlocked
		reached[10][5] = 1;
		if (!(((((now.source==1)&& !(((int)now.source_killed)))&& !(((int)now.src_rebooted)))&& !(( !(((int)now.missing))||(now.restored==1))))))
			continue;
		/* merge: lost_by_us = 1(19, 6, 19) */
		reached[10][6] = 1;
		(trpt+1)->bup.oval = ((int)now.lost_by_us);
		now.lost_by_us = 1;
#ifdef VAR_RANGES
		logval("lost_by_us", ((int)now.lost_by_us));
#endif
		;
		/* merge: assert(!(lost_by_us))(19, 7, 19) */
		reached[10][7] = 1;
		spin_assert( !(((int)now.lost_by_us)), " !(lost_by_us)", II, tt, t);
		/* merge: .(goto)(0, 18, 19) */
		reached[10][18] = 1;
		;
		_m = 3; goto P999; /* 3 */
	case 5: // STATE 9 - migration.pml:517 - [(((((said==3)&&((source!=1)||!((!(missing)||(restored==1)))))||((said==2)&&(((source==3)||(source==2))||(restored==3))))||((said==1)&&!(went))))] (19:0:1 - 1)
		IfNotBlocked
		reached[10][9] = 1;
		if (!(((((now.said==3)&&((now.source!=1)|| !(( !(((int)now.missing))||(now.restored==1)))))||((now.said==2)&&(((now.source==3)||(now.source==2))||(now.restored==3))))||((now.said==1)&& !(((int)now.went))))))
			continue;
		/* merge: untrue_word = 1(19, 10, 19) */
		reached[10][10] = 1;
		(trpt+1)->bup.oval = ((int)now.untrue_word);
		now.untrue_word = 1;
#ifdef VAR_RANGES
		logval("untrue_word", ((int)now.untrue_word));
#endif
		;
		/* merge: assert(!(untrue_word))(19, 11, 19) */
		reached[10][11] = 1;
		spin_assert( !(((int)now.untrue_word)), " !(untrue_word)", II, tt, t);
		/* merge: .(goto)(0, 18, 19) */
		reached[10][18] = 1;
		;
		_m = 3; goto P999; /* 3 */
	case 6: // STATE 13 - migration.pml:519 - [((((((journal==3)||((((!(((journal==3)||(journal==2)))&&!(driver))&&committing)&&(source==1))&&!(dump)))&&((source!=1)||!((!(missing)||(restored==1)))))||(((journal==2)||(((!(((journal==3)||(journal==2)))&&!(driver))&&(source==4))&&!(dump)))&&(((source==3)||(source==2))||(restored==3))))||((((!(((journal==3)||(journal==2)))&&!(driver))&&src_rebooted)&&!((((((journal==7)||(journal==6))||(journal==5))||(journal==4))||(journal==1))))&&(restored==3))))] (19:0:1 - 1)
		IfNotBlocked
		reached[10][13] = 1;
		if (!((((((now.journal==3)||(((( !(((now.journal==3)||(now.journal==2)))&& !(((int)now.driver)))&&((int)now.committing))&&(now.source==1))&& !(((int)now.dump))))&&((now.source!=1)|| !(( !(((int)now.missing))||(now.restored==1)))))||(((now.journal==2)||((( !(((now.journal==3)||(now.journal==2)))&& !(((int)now.driver)))&&(now.source==4))&& !(((int)now.dump))))&&(((now.source==3)||(now.source==2))||(now.restored==3))))||(((( !(((now.journal==3)||(now.journal==2)))&& !(((int)now.driver)))&&((int)now.src_rebooted))&& !((((((now.journal==7)||(now.journal==6))||(now.journal==5))||(now.journal==4))||(now.journal==1))))&&(now.restored==3)))))
			continue;
		/* merge: untrue_status = 1(19, 14, 19) */
		reached[10][14] = 1;
		(trpt+1)->bup.oval = ((int)now.untrue_status);
		now.untrue_status = 1;
#ifdef VAR_RANGES
		logval("untrue_status", ((int)now.untrue_status));
#endif
		;
		/* merge: assert(!(untrue_status))(19, 15, 19) */
		reached[10][15] = 1;
		spin_assert( !(((int)now.untrue_status)), " !(untrue_status)", II, tt, t);
		/* merge: .(goto)(0, 18, 19) */
		reached[10][18] = 1;
		;
		_m = 3; goto P999; /* 3 */
	case 7: // STATE 19 - migration.pml:521 - [-end-] (0:0:0 - 5)
		IfNotBlocked
		reached[10][19] = 1;
		if (!delproc(1, II)) continue;
		_m = 3; goto P999; /* 0 */

		 /* PROC Operator */
	case 8: // STATE 1 - migration.pml:469 - [(timeout)] (0:0:0 - 1)
		IfNotBlocked
		reached[9][1] = 1;
		if (!(((trpt->tau)&1)))
			continue;
		_m = 1; goto P999; /* 0 */
	case 9: // STATE 2 - migration.pml:470 - [faults = 0] (0:0:1 - 1)
		IfNotBlocked
		reached[9][2] = 1;
		(trpt+1)->bup.oval = ((int)now.faults);
		now.faults = 0;
#ifdef VAR_RANGES
		logval("faults", ((int)now.faults));
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 10: // STATE 3 - migration.pml:472 - [(!(link_up))] (29:0:1 - 1)
		IfNotBlocked
		reached[9][3] = 1;
		if (!( !(((int)now.link_up))))
			continue;
		/* merge: link_up = 1(0, 4, 29) */
		reached[9][4] = 1;
		(trpt+1)->bup.oval = ((int)now.link_up);
		now.link_up = 1;
#ifdef VAR_RANGES
		logval("link_up", ((int)now.link_up));
#endif
		;
		/* merge: .(goto)(0, 28, 29) */
		reached[9][28] = 1;
		;
		/* merge: .(goto)(0, 30, 29) */
		reached[9][30] = 1;
		;
		_m = 3; goto P999; /* 3 */
	case 11: // STATE 6 - migration.pml:473 - [((link_up&&driver))] (0:0:0 - 1)
		IfNotBlocked
		reached[9][6] = 1;
		if (!((((int)now.link_up)&&((int)now.driver))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 12: // STATE 7 - migration.pml:473 - [sigint = 1] (0:0:1 - 1)
		IfNotBlocked
		reached[9][7] = 1;
		(trpt+1)->bup.oval = ((int)now.sigint);
		now.sigint = 1;
#ifdef VAR_RANGES
		logval("sigint", ((int)now.sigint));
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 13: // STATE 8 - migration.pml:473 - [(!(driver))] (0:0:0 - 1)
		IfNotBlocked
		reached[9][8] = 1;
		if (!( !(((int)now.driver))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 14: // STATE 9 - migration.pml:474 - [((link_up&&!(driver)))] (0:0:0 - 1)
		IfNotBlocked
		reached[9][9] = 1;
		if (!((((int)now.link_up)&& !(((int)now.driver)))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 15: // STATE 10 - migration.pml:475 - [disk_full = 0] (0:0:1 - 1)
		IfNotBlocked
		reached[9][10] = 1;
		(trpt+1)->bup.oval = ((int)now.disk_full);
		now.disk_full = 0;
#ifdef VAR_RANGES
		logval("disk_full", ((int)now.disk_full));
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 16: // STATE 11 - migration.pml:477 - [((((((journal==3)||((((!(((journal==3)||(journal==2)))&&!(driver))&&committing)&&(source==1))&&!(dump)))||((journal==2)||(((!(((journal==3)||(journal==2)))&&!(driver))&&(source==4))&&!(dump))))||(((!(((journal==3)||(journal==2)))&&!(driver))&&src_rebooted)&&!((((((journal==7)||(journal==6))||(journal==5))||(journal==4))||(journal==1)))))||(((((!(((journal==3)||(journal==2)))&&!(driver))&&(source==1))&&!(dump))&&!(((journal==3)||((((!(((journal==3)||(journal==2)))&&!(driver))&&committing)&&(source==1))&&!(dump)))))&&!((((!(((journal==3)||(journal==2)))&&!(driver))&&src_rebooted)&&!((((((journal==7)||(journal==6))||(journal==5))||(journal==4))||(journal==1))))))))] (31:0:0 - 1)
		IfNotBlocked
		reached[9][11] = 1;
		if (!((((((now.journal==3)||(((( !(((now.journal==3)||(now.journal==2)))&& !(((int)now.driver)))&&((int)now.committing))&&(now.source==1))&& !(((int)now.dump))))||((now.journal==2)||((( !(((now.journal==3)||(now.journal==2)))&& !(((int)now.driver)))&&(now.source==4))&& !(((int)now.dump)))))||((( !(((now.journal==3)||(now.journal==2)))&& !(((int)now.driver)))&&((int)now.src_rebooted))&& !((((((now.journal==7)||(now.journal==6))||(now.journal==5))||(now.journal==4))||(now.journal==1)))))||((((( !(((now.journal==3)||(now.journal==2)))&& !(((int)now.driver)))&&(now.source==1))&& !(((int)now.dump)))&& !(((now.journal==3)||(((( !(((now.journal==3)||(now.journal==2)))&& !(((int)now.driver)))&&((int)now.committing))&&(now.source==1))&& !(((int)now.dump))))))&& !(((( !(((now.journal==3)||(now.journal==2)))&& !(((int)now.driver)))&&((int)now.src_rebooted))&& !((((((now.journal==7)||(now.journal==6))||(now.journal==5))||(now.journal==4))||(now.journal==1)))))))))
			continue;
		/* merge: goto :b11(0, 12, 31) */
		reached[9][12] = 1;
		;
		_m = 3; goto P999; /* 1 */
	case 17: // STATE 25 - migration.pml:482 - [.(goto)] (0:29:0 - 1)
		IfNotBlocked
		reached[9][25] = 1;
		;
		/* merge: .(goto)(0, 28, 29) */
		reached[9][28] = 1;
		;
		/* merge: .(goto)(0, 30, 29) */
		reached[9][30] = 1;
		;
		_m = 3; goto P999; /* 2 */
	case 18: // STATE 13 - migration.pml:478 - [((((!((((((journal==3)||((((!(((journal==3)||(journal==2)))&&!(driver))&&committing)&&(source==1))&&!(dump)))||((journal==2)||(((!(((journal==3)||(journal==2)))&&!(driver))&&(source==4))&&!(dump))))||(((!(((journal==3)||(journal==2)))&&!(driver))&&src_rebooted)&&!((((((journal==7)||(journal==6))||(journal==5))||(journal==4))||(journal==1)))))||(((((!(((journal==3)||(journal==2)))&&!(driver))&&(source==1))&&!(dump))&&!(((journal==3)||((((!(((journal==3)||(journal==2)))&&!(driver))&&committing)&&(source==1))&&!(dump)))))&&!((((!(((journal==3)||(journal==2)))&&!(driver))&&src_rebooted)&&!((((((journal==7)||(journal==6))||(journal==5))||(journal==4))||(journal==1))))))))&&drained)&&dump)&&server))] (18:0:1 - 1)
		IfNotBlocked
		reached[9][13] = 1;
		if (!(((( !((((((now.journal==3)||(((( !(((now.journal==3)||(now.journal==2)))&& !(((int)now.driver)))&&((int)now.committing))&&(now.source==1))&& !(((int)now.dump))))||((now.journal==2)||((( !(((now.journal==3)||(now.journal==2)))&& !(((int)now.driver)))&&(now.source==4))&& !(((int)now.dump)))))||((( !(((now.journal==3)||(now.journal==2)))&& !(((int)now.driver)))&&((int)now.src_rebooted))&& !((((((now.journal==7)||(now.journal==6))||(now.journal==5))||(now.journal==4))||(now.journal==1)))))||((((( !(((now.journal==3)||(now.journal==2)))&& !(((int)now.driver)))&&(now.source==1))&& !(((int)now.dump)))&& !(((now.journal==3)||(((( !(((now.journal==3)||(now.journal==2)))&& !(((int)now.driver)))&&((int)now.committing))&&(now.source==1))&& !(((int)now.dump))))))&& !(((( !(((now.journal==3)||(now.journal==2)))&& !(((int)now.driver)))&&((int)now.src_rebooted))&& !((((((now.journal==7)||(now.journal==6))||(now.journal==5))||(now.journal==4))||(now.journal==1))))))))&&((int)now.drained))&&((int)now.dump))&&((int)now.server))))
			continue;
		/* merge: committing = 1(0, 14, 18) */
		reached[9][14] = 1;
		(trpt+1)->bup.oval = ((int)now.committing);
		now.committing = 1;
#ifdef VAR_RANGES
		logval("committing", ((int)now.committing));
#endif
		;
		_m = 3; goto P999; /* 1 */
	case 19: // STATE 15 - migration.pml:185 - [journal = 4] (0:37:2 - 1)
		IfNotBlocked
		reached[9][15] = 1;
		(trpt+1)->bup.ovals = grab_ints(2);
		(trpt+1)->bup.ovals[0] = now.journal;
		now.journal = 4;
#ifdef VAR_RANGES
		logval("journal", now.journal);
#endif
		;
		/* merge: disk = 4(37, 16, 37) */
		reached[9][16] = 1;
		(trpt+1)->bup.ovals[1] = now.disk;
		now.disk = 4;
#ifdef VAR_RANGES
		logval("disk", now.disk);
#endif
		;
		/* merge: goto commit(37, 19, 37) */
		reached[9][19] = 1;
		;
		_m = 3; goto P999; /* 2 */
	case 20: // STATE 20 - migration.pml:479 - [(((((((!((((((journal==3)||((((!(((journal==3)||(journal==2)))&&!(driver))&&committing)&&(source==1))&&!(dump)))||((journal==2)||(((!(((journal==3)||(journal==2)))&&!(driver))&&(source==4))&&!(dump))))||(((!(((journal==3)||(journal==2)))&&!(driver))&&src_rebooted)&&!((((((journal==7)||(journal==6))||(journal==5))||(journal==4))||(journal==1)))))||(((((!(((journal==3)||(journal==2)))&&!(driver))&&(source==1))&&!(dump))&&!(((journal==3)||((((!(((journal==3)||(journal==2)))&&!(driver))&&committing)&&(source==1))&&!(dump)))))&&!((((!(((journal==3)||(journal==2)))&&!(driver))&&src_rebooted)&&!((((((journal==7)||(journal==6))||(journal==5))||(journal==4))||(journal==1))))))))&&!(drained))&&holder)&&!(daemon))&&(restored==3))&&dump)&&server))] (29:0:1 - 1)
		IfNotBlocked
		reached[9][20] = 1;
		if (!((((((( !((((((now.journal==3)||(((( !(((now.journal==3)||(now.journal==2)))&& !(((int)now.driver)))&&((int)now.committing))&&(now.source==1))&& !(((int)now.dump))))||((now.journal==2)||((( !(((now.journal==3)||(now.journal==2)))&& !(((int)now.driver)))&&(now.source==4))&& !(((int)now.dump)))))||((( !(((now.journal==3)||(now.journal==2)))&& !(((int)now.driver)))&&((int)now.src_rebooted))&& !((((((now.journal==7)||(now.journal==6))||(now.journal==5))||(now.journal==4))||(now.journal==1)))))||((((( !(((now.journal==3)||(now.journal==2)))&& !(((int)now.driver)))&&(now.source==1))&& !(((int)now.dump)))&& !(((now.journal==3)||(((( !(((now.journal==3)||(now.journal==2)))&& !(((int)now.driver)))&&((int)now.committing))&&(now.source==1))&& !(((int)now.dump))))))&& !(((( !(((now.journal==3)||(now.journal==2)))&& !(((int)now.driver)))&&((int)now.src_rebooted))&& !((((((now.journal==7)||(now.journal==6))||(now.journal==5))||(now.journal==4))||(now.journal==1))))))))&& !(((int)now.drained)))&&((int)now.holder))&& !(((int)now.daemon)))&&(now.restored==3))&&((int)now.dump))&&((int)now.server))))
			continue;
		/* merge: daemon = 1(29, 21, 29) */
		reached[9][21] = 1;
		(trpt+1)->bup.oval = ((int)now.daemon);
		now.daemon = 1;
#ifdef VAR_RANGES
		logval("daemon", ((int)now.daemon));
#endif
		;
		/* merge: .(goto)(29, 25, 29) */
		reached[9][25] = 1;
		;
		/* merge: .(goto)(0, 28, 29) */
		reached[9][28] = 1;
		;
		/* merge: .(goto)(0, 30, 29) */
		reached[9][30] = 1;
		;
		_m = 3; goto P999; /* 4 */
	case 21: // STATE 33 - migration.pml:202 - [((server&&(op==4)))] (38:0:2 - 1)
		IfNotBlocked
		reached[9][33] = 1;
		if (!((((int)now.server)&&(now.op==4))))
			continue;
		/* merge: op = 2(38, 34, 38) */
		reached[9][34] = 1;
		(trpt+1)->bup.ovals = grab_ints(2);
		(trpt+1)->bup.ovals[0] = now.op;
		now.op = 2;
#ifdef VAR_RANGES
		logval("op", now.op);
#endif
		;
		/* merge: answer = 3(38, 35, 38) */
		reached[9][35] = 1;
		(trpt+1)->bup.ovals[1] = now.answer;
		now.answer = 3;
#ifdef VAR_RANGES
		logval("answer", now.answer);
#endif
		;
		_m = 3; goto P999; /* 2 */
	case 22: // STATE 38 - migration.pml:488 - [(((answer!=3)||!(server)))] (0:0:0 - 1)
		IfNotBlocked
		reached[9][38] = 1;
		if (!(((now.answer!=3)|| !(((int)now.server)))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 23: // STATE 39 - migration.pml:488 - [op = 4] (0:0:1 - 1)
		IfNotBlocked
		reached[9][39] = 1;
		(trpt+1)->bup.oval = now.op;
		now.op = 4;
#ifdef VAR_RANGES
		logval("op", now.op);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 24: // STATE 40 - migration.pml:488 - [answer = 3] (0:0:1 - 1)
		IfNotBlocked
		reached[9][40] = 1;
		(trpt+1)->bup.oval = now.answer;
		now.answer = 3;
#ifdef VAR_RANGES
		logval("answer", now.answer);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 25: // STATE 41 - migration.pml:490 - [((source==1))] (0:0:0 - 1)
		IfNotBlocked
		reached[9][41] = 1;
		if (!((now.source==1)))
			continue;
		_m = 3; goto P999; /* 0 */
	case 26: // STATE 42 - migration.pml:185 - [journal = 3] (0:82:2 - 1)
		IfNotBlocked
		reached[9][42] = 1;
		(trpt+1)->bup.ovals = grab_ints(2);
		(trpt+1)->bup.ovals[0] = now.journal;
		now.journal = 3;
#ifdef VAR_RANGES
		logval("journal", now.journal);
#endif
		;
		/* merge: disk = 3(82, 43, 82) */
		reached[9][43] = 1;
		(trpt+1)->bup.ovals[1] = now.disk;
		now.disk = 3;
#ifdef VAR_RANGES
		logval("disk", now.disk);
#endif
		;
		/* merge: .(goto)(0, 50, 82) */
		reached[9][50] = 1;
		;
		/* merge: goto settled(0, 51, 82) */
		reached[9][51] = 1;
		;
		_m = 3; goto P999; /* 3 */
	case 27: // STATE 52 - migration.pml:457 - [restored = ( ((restored==3)) -> (2) : (( ((restored==4)) -> (5) : (restored) )) )] (0:66:3 - 1)
		IfNotBlocked
		reached[9][52] = 1;
		(trpt+1)->bup.ovals = grab_ints(3);
		(trpt+1)->bup.ovals[0] = now.restored;
		now.restored = ( ((now.restored==3)) ? (2) : (( ((now.restored==4)) ? (5) : (now.restored) )) );
#ifdef VAR_RANGES
		logval("restored", now.restored);
#endif
		;
		/* merge: restore = 0(66, 53, 66) */
		reached[9][53] = 1;
		(trpt+1)->bup.ovals[1] = ((int)now.restore);
		now.restore = 0;
#ifdef VAR_RANGES
		logval("restore", ((int)now.restore));
#endif
		;
		/* merge: gate = 0(66, 54, 66) */
		reached[9][54] = 1;
		(trpt+1)->bup.ovals[2] = ((int)now.gate);
		now.gate = 0;
#ifdef VAR_RANGES
		logval("gate", ((int)now.gate));
#endif
		;
		/* merge: .(goto)(0, 67, 66) */
		reached[9][67] = 1;
		;
		_m = 3; goto P999; /* 3 */
	case 28: // STATE 56 - migration.pml:202 - [((server&&(op==4)))] (61:0:2 - 1)
		IfNotBlocked
		reached[9][56] = 1;
		if (!((((int)now.server)&&(now.op==4))))
			continue;
		/* merge: op = 1(61, 57, 61) */
		reached[9][57] = 1;
		(trpt+1)->bup.ovals = grab_ints(2);
		(trpt+1)->bup.ovals[0] = now.op;
		now.op = 1;
#ifdef VAR_RANGES
		logval("op", now.op);
#endif
		;
		/* merge: answer = 3(61, 58, 61) */
		reached[9][58] = 1;
		(trpt+1)->bup.ovals[1] = now.answer;
		now.answer = 3;
#ifdef VAR_RANGES
		logval("answer", now.answer);
#endif
		;
		_m = 3; goto P999; /* 2 */
	case 29: // STATE 61 - migration.pml:460 - [(((answer!=3)||!(server)))] (0:0:0 - 1)
		IfNotBlocked
		reached[9][61] = 1;
		if (!(((now.answer!=3)|| !(((int)now.server)))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 30: // STATE 62 - migration.pml:460 - [op = 4] (0:0:1 - 1)
		IfNotBlocked
		reached[9][62] = 1;
		(trpt+1)->bup.oval = now.op;
		now.op = 4;
#ifdef VAR_RANGES
		logval("op", now.op);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 31: // STATE 63 - migration.pml:460 - [answer = 3] (0:0:1 - 1)
		IfNotBlocked
		reached[9][63] = 1;
		(trpt+1)->bup.oval = now.answer;
		now.answer = 3;
#ifdef VAR_RANGES
		logval("answer", now.answer);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 32: // STATE 64 - migration.pml:461 - [((!(dump)&&(source!=3)))] (0:0:0 - 1)
		IfNotBlocked
		reached[9][64] = 1;
		if (!(( !(((int)now.dump))&&(now.source!=3))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 33: // STATE 69 - migration.pml:96 - [fenced = 0] (0:0:1 - 1)
		IfNotBlocked
		reached[9][69] = 1;
		(trpt+1)->bup.oval = ((int)now.fenced);
		now.fenced = 0;
#ifdef VAR_RANGES
		logval("fenced", ((int)now.fenced));
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 34: // STATE 70 - migration.pml:98 - [((source==2))] (79:0:1 - 1)
		IfNotBlocked
		reached[9][70] = 1;
		if (!((now.source==2)))
			continue;
		/* merge: source = 4(0, 71, 79) */
		reached[9][71] = 1;
		(trpt+1)->bup.oval = now.source;
		now.source = 4;
#ifdef VAR_RANGES
		logval("source", now.source);
#endif
		;
		/* merge: .(goto)(0, 74, 79) */
		reached[9][74] = 1;
		;
		_m = 3; goto P999; /* 2 */
	case 35: // STATE 76 - migration.pml:185 - [journal = 2] (0:82:2 - 1)
		IfNotBlocked
		reached[9][76] = 1;
		(trpt+1)->bup.ovals = grab_ints(2);
		(trpt+1)->bup.ovals[0] = now.journal;
		now.journal = 2;
#ifdef VAR_RANGES
		logval("journal", now.journal);
#endif
		;
		/* merge: disk = 2(82, 77, 82) */
		reached[9][77] = 1;
		(trpt+1)->bup.ovals[1] = now.disk;
		now.disk = 2;
#ifdef VAR_RANGES
		logval("disk", now.disk);
#endif
		;
		_m = 3; goto P999; /* 1 */
	case 36: // STATE 82 - migration.pml:497 - [(timeout)] (0:0:0 - 6)
		IfNotBlocked
		reached[9][82] = 1;
		if (!(((trpt->tau)&1)))
			continue;
		_m = 1; goto P999; /* 0 */
	case 37: // STATE 83 - migration.pml:499 - [no_way_out = !(((((((source==4)||(restored==3))||(restored==1))||source_killed)||src_rebooted)||((restored==2)&&!(missing))))] (0:86:1 - 1)
		IfNotBlocked
		reached[9][83] = 1;
		(trpt+1)->bup.oval = ((int)now.no_way_out);
		now.no_way_out =  !(((((((now.source==4)||(now.restored==3))||(now.restored==1))||((int)now.source_killed))||((int)now.src_rebooted))||((now.restored==2)&& !(((int)now.missing)))));
#ifdef VAR_RANGES
		logval("no_way_out", ((int)now.no_way_out));
#endif
		;
		/* merge: assert(!(no_way_out))(86, 84, 86) */
		reached[9][84] = 1;
		spin_assert( !(((int)now.no_way_out)), " !(no_way_out)", II, tt, t);
		_m = 3; goto P999; /* 1 */
	case 38: // STATE 86 - migration.pml:503 - [-end-] (0:0:0 - 1)
		IfNotBlocked
		reached[9][86] = 1;
		if (!delproc(1, II)) continue;
		_m = 3; goto P999; /* 0 */

		 /* PROC Faults */
	case 39: // STATE 1 - migration.pml:405 - [(((faults>0)&&driver))] (84:0:2 - 1)
		IfNotBlocked
		reached[8][1] = 1;
		if (!(((((int)now.faults)>0)&&((int)now.driver))))
			continue;
		/* merge: driver = 0(84, 2, 84) */
		reached[8][2] = 1;
		(trpt+1)->bup.ovals = grab_ints(2);
		(trpt+1)->bup.ovals[0] = ((int)now.driver);
		now.driver = 0;
#ifdef VAR_RANGES
		logval("driver", ((int)now.driver));
#endif
		;
		/* merge: faults = (faults-1)(84, 3, 84) */
		reached[8][3] = 1;
		(trpt+1)->bup.ovals[1] = ((int)now.faults);
		now.faults = (((int)now.faults)-1);
#ifdef VAR_RANGES
		logval("faults", ((int)now.faults));
#endif
		;
		/* merge: .(goto)(0, 85, 84) */
		reached[8][85] = 1;
		;
		_m = 3; goto P999; /* 3 */
	case 40: // STATE 5 - migration.pml:406 - [(((faults>0)&&server))] (84:0:2 - 1)
		IfNotBlocked
		reached[8][5] = 1;
		if (!(((((int)now.faults)>0)&&((int)now.server))))
			continue;
		/* merge: server = 0(84, 6, 84) */
		reached[8][6] = 1;
		(trpt+1)->bup.ovals = grab_ints(2);
		(trpt+1)->bup.ovals[0] = ((int)now.server);
		now.server = 0;
#ifdef VAR_RANGES
		logval("server", ((int)now.server));
#endif
		;
		/* merge: faults = (faults-1)(84, 7, 84) */
		reached[8][7] = 1;
		(trpt+1)->bup.ovals[1] = ((int)now.faults);
		now.faults = (((int)now.faults)-1);
#ifdef VAR_RANGES
		logval("faults", ((int)now.faults));
#endif
		;
		/* merge: .(goto)(0, 85, 84) */
		reached[8][85] = 1;
		;
		_m = 3; goto P999; /* 3 */
	case 41: // STATE 9 - migration.pml:407 - [(((faults>0)&&guardian))] (84:0:2 - 1)
		IfNotBlocked
		reached[8][9] = 1;
		if (!(((((int)now.faults)>0)&&((int)now.guardian))))
			continue;
		/* merge: guardian = 0(84, 10, 84) */
		reached[8][10] = 1;
		(trpt+1)->bup.ovals = grab_ints(2);
		(trpt+1)->bup.ovals[0] = ((int)now.guardian);
		now.guardian = 0;
#ifdef VAR_RANGES
		logval("guardian", ((int)now.guardian));
#endif
		;
		/* merge: faults = (faults-1)(84, 11, 84) */
		reached[8][11] = 1;
		(trpt+1)->bup.ovals[1] = ((int)now.faults);
		now.faults = (((int)now.faults)-1);
#ifdef VAR_RANGES
		logval("faults", ((int)now.faults));
#endif
		;
		/* merge: .(goto)(0, 85, 84) */
		reached[8][85] = 1;
		;
		_m = 3; goto P999; /* 3 */
	case 42: // STATE 13 - migration.pml:408 - [(((faults>0)&&dump))] (84:0:2 - 1)
		IfNotBlocked
		reached[8][13] = 1;
		if (!(((((int)now.faults)>0)&&((int)now.dump))))
			continue;
		/* merge: dump = 0(84, 14, 84) */
		reached[8][14] = 1;
		(trpt+1)->bup.ovals = grab_ints(2);
		(trpt+1)->bup.ovals[0] = ((int)now.dump);
		now.dump = 0;
#ifdef VAR_RANGES
		logval("dump", ((int)now.dump));
#endif
		;
		/* merge: faults = (faults-1)(84, 15, 84) */
		reached[8][15] = 1;
		(trpt+1)->bup.ovals[1] = ((int)now.faults);
		now.faults = (((int)now.faults)-1);
#ifdef VAR_RANGES
		logval("faults", ((int)now.faults));
#endif
		;
		/* merge: .(goto)(0, 85, 84) */
		reached[8][85] = 1;
		;
		_m = 3; goto P999; /* 3 */
	case 43: // STATE 17 - migration.pml:409 - [(((faults>0)&&agent))] (84:0:2 - 1)
		IfNotBlocked
		reached[8][17] = 1;
		if (!(((((int)now.faults)>0)&&((int)now.agent))))
			continue;
		/* merge: agent = 0(84, 18, 84) */
		reached[8][18] = 1;
		(trpt+1)->bup.ovals = grab_ints(2);
		(trpt+1)->bup.ovals[0] = ((int)now.agent);
		now.agent = 0;
#ifdef VAR_RANGES
		logval("agent", ((int)now.agent));
#endif
		;
		/* merge: faults = (faults-1)(84, 19, 84) */
		reached[8][19] = 1;
		(trpt+1)->bup.ovals[1] = ((int)now.faults);
		now.faults = (((int)now.faults)-1);
#ifdef VAR_RANGES
		logval("faults", ((int)now.faults));
#endif
		;
		/* merge: .(goto)(0, 85, 84) */
		reached[8][85] = 1;
		;
		_m = 3; goto P999; /* 3 */
	case 44: // STATE 21 - migration.pml:410 - [(((faults>0)&&keeper))] (84:0:2 - 1)
		IfNotBlocked
		reached[8][21] = 1;
		if (!(((((int)now.faults)>0)&&((int)now.keeper))))
			continue;
		/* merge: keeper = 0(84, 22, 84) */
		reached[8][22] = 1;
		(trpt+1)->bup.ovals = grab_ints(2);
		(trpt+1)->bup.ovals[0] = ((int)now.keeper);
		now.keeper = 0;
#ifdef VAR_RANGES
		logval("keeper", ((int)now.keeper));
#endif
		;
		/* merge: faults = (faults-1)(84, 23, 84) */
		reached[8][23] = 1;
		(trpt+1)->bup.ovals[1] = ((int)now.faults);
		now.faults = (((int)now.faults)-1);
#ifdef VAR_RANGES
		logval("faults", ((int)now.faults));
#endif
		;
		/* merge: .(goto)(0, 85, 84) */
		reached[8][85] = 1;
		;
		_m = 3; goto P999; /* 3 */
	case 45: // STATE 25 - migration.pml:411 - [(((faults>0)&&daemon))] (84:0:2 - 1)
		IfNotBlocked
		reached[8][25] = 1;
		if (!(((((int)now.faults)>0)&&((int)now.daemon))))
			continue;
		/* merge: daemon = 0(84, 26, 84) */
		reached[8][26] = 1;
		(trpt+1)->bup.ovals = grab_ints(2);
		(trpt+1)->bup.ovals[0] = ((int)now.daemon);
		now.daemon = 0;
#ifdef VAR_RANGES
		logval("daemon", ((int)now.daemon));
#endif
		;
		/* merge: faults = (faults-1)(84, 27, 84) */
		reached[8][27] = 1;
		(trpt+1)->bup.ovals[1] = ((int)now.faults);
		now.faults = (((int)now.faults)-1);
#ifdef VAR_RANGES
		logval("faults", ((int)now.faults));
#endif
		;
		/* merge: .(goto)(0, 85, 84) */
		reached[8][85] = 1;
		;
		_m = 3; goto P999; /* 3 */
	case 46: // STATE 29 - migration.pml:412 - [(((faults>0)&&holder))] (84:0:2 - 1)
		IfNotBlocked
		reached[8][29] = 1;
		if (!(((((int)now.faults)>0)&&((int)now.holder))))
			continue;
		/* merge: holder = 0(84, 30, 84) */
		reached[8][30] = 1;
		(trpt+1)->bup.ovals = grab_ints(2);
		(trpt+1)->bup.ovals[0] = ((int)now.holder);
		now.holder = 0;
#ifdef VAR_RANGES
		logval("holder", ((int)now.holder));
#endif
		;
		/* merge: faults = (faults-1)(84, 31, 84) */
		reached[8][31] = 1;
		(trpt+1)->bup.ovals[1] = ((int)now.faults);
		now.faults = (((int)now.faults)-1);
#ifdef VAR_RANGES
		logval("faults", ((int)now.faults));
#endif
		;
		/* merge: .(goto)(0, 85, 84) */
		reached[8][85] = 1;
		;
		_m = 3; goto P999; /* 3 */
	case 47: // STATE 33 - migration.pml:413 - [(((faults>0)&&restore))] (41:0:2 - 1)
		IfNotBlocked
		reached[8][33] = 1;
		if (!(((((int)now.faults)>0)&&((int)now.restore))))
			continue;
		/* merge: restore = 0(41, 34, 41) */
		reached[8][34] = 1;
		(trpt+1)->bup.ovals = grab_ints(2);
		(trpt+1)->bup.ovals[0] = ((int)now.restore);
		now.restore = 0;
#ifdef VAR_RANGES
		logval("restore", ((int)now.restore));
#endif
		;
		/* merge: faults = (faults-1)(41, 35, 41) */
		reached[8][35] = 1;
		(trpt+1)->bup.ovals[1] = ((int)now.faults);
		now.faults = (((int)now.faults)-1);
#ifdef VAR_RANGES
		logval("faults", ((int)now.faults));
#endif
		;
		_m = 3; goto P999; /* 2 */
	case 48: // STATE 36 - migration.pml:415 - [((gate&&(restored==4)))] (84:0:1 - 1)
		IfNotBlocked
		reached[8][36] = 1;
		if (!((((int)now.gate)&&(now.restored==4))))
			continue;
		/* merge: restored = 3(84, 37, 84) */
		reached[8][37] = 1;
		(trpt+1)->bup.oval = now.restored;
		now.restored = 3;
#ifdef VAR_RANGES
		logval("restored", now.restored);
#endif
		;
		/* merge: .(goto)(84, 42, 84) */
		reached[8][42] = 1;
		;
		/* merge: .(goto)(0, 85, 84) */
		reached[8][85] = 1;
		;
		_m = 3; goto P999; /* 3 */
	case 49: // STATE 42 - migration.pml:418 - [.(goto)] (0:84:0 - 3)
		IfNotBlocked
		reached[8][42] = 1;
		;
		/* merge: .(goto)(0, 85, 84) */
		reached[8][85] = 1;
		;
		_m = 3; goto P999; /* 1 */
	case 50: // STATE 38 - migration.pml:416 - [((gate&&(restored==4)))] (84:0:1 - 1)
		IfNotBlocked
		reached[8][38] = 1;
		if (!((((int)now.gate)&&(now.restored==4))))
			continue;
		/* merge: restored = 5(84, 39, 84) */
		reached[8][39] = 1;
		(trpt+1)->bup.oval = now.restored;
		now.restored = 5;
#ifdef VAR_RANGES
		logval("restored", now.restored);
#endif
		;
		/* merge: .(goto)(84, 42, 84) */
		reached[8][42] = 1;
		;
		/* merge: .(goto)(0, 85, 84) */
		reached[8][85] = 1;
		;
		_m = 3; goto P999; /* 3 */
	case 51: // STATE 44 - migration.pml:419 - [(((faults>0)&&link_up))] (84:0:2 - 1)
		IfNotBlocked
		reached[8][44] = 1;
		if (!(((((int)now.faults)>0)&&((int)now.link_up))))
			continue;
		/* merge: link_up = 0(84, 45, 84) */
		reached[8][45] = 1;
		(trpt+1)->bup.ovals = grab_ints(2);
		(trpt+1)->bup.ovals[0] = ((int)now.link_up);
		now.link_up = 0;
#ifdef VAR_RANGES
		logval("link_up", ((int)now.link_up));
#endif
		;
		/* merge: faults = (faults-1)(84, 46, 84) */
		reached[8][46] = 1;
		(trpt+1)->bup.ovals[1] = ((int)now.faults);
		now.faults = (((int)now.faults)-1);
#ifdef VAR_RANGES
		logval("faults", ((int)now.faults));
#endif
		;
		/* merge: .(goto)(0, 85, 84) */
		reached[8][85] = 1;
		;
		_m = 3; goto P999; /* 3 */
	case 52: // STATE 48 - migration.pml:420 - [((((faults>0)&&!(disk_full))&&!(((journal==3)||(journal==2)))))] (84:0:2 - 1)
		IfNotBlocked
		reached[8][48] = 1;
		if (!((((((int)now.faults)>0)&& !(((int)now.disk_full)))&& !(((now.journal==3)||(now.journal==2))))))
			continue;
		/* merge: disk_full = 1(84, 49, 84) */
		reached[8][49] = 1;
		(trpt+1)->bup.ovals = grab_ints(2);
		(trpt+1)->bup.ovals[0] = ((int)now.disk_full);
		now.disk_full = 1;
#ifdef VAR_RANGES
		logval("disk_full", ((int)now.disk_full));
#endif
		;
		/* merge: faults = (faults-1)(84, 50, 84) */
		reached[8][50] = 1;
		(trpt+1)->bup.ovals[1] = ((int)now.faults);
		now.faults = (((int)now.faults)-1);
#ifdef VAR_RANGES
		logval("faults", ((int)now.faults));
#endif
		;
		/* merge: .(goto)(0, 85, 84) */
		reached[8][85] = 1;
		;
		_m = 3; goto P999; /* 3 */
	case 53: // STATE 52 - migration.pml:421 - [(((((faults>0)&&(restored==3))&&!(((journal==3)||(journal==2))))&&(source!=1)))] (84:0:2 - 1)
		IfNotBlocked
		reached[8][52] = 1;
		if (!(((((((int)now.faults)>0)&&(now.restored==3))&& !(((now.journal==3)||(now.journal==2))))&&(now.source!=1))))
			continue;
		/* merge: restored = 2(84, 53, 84) */
		reached[8][53] = 1;
		(trpt+1)->bup.ovals = grab_ints(2);
		(trpt+1)->bup.ovals[0] = now.restored;
		now.restored = 2;
#ifdef VAR_RANGES
		logval("restored", now.restored);
#endif
		;
		/* merge: faults = (faults-1)(84, 54, 84) */
		reached[8][54] = 1;
		(trpt+1)->bup.ovals[1] = ((int)now.faults);
		now.faults = (((int)now.faults)-1);
#ifdef VAR_RANGES
		logval("faults", ((int)now.faults));
#endif
		;
		/* merge: .(goto)(0, 85, 84) */
		reached[8][85] = 1;
		;
		_m = 3; goto P999; /* 3 */
	case 54: // STATE 56 - migration.pml:423 - [(((((faults>0)&&(restored==3))&&!(((journal==3)||(journal==2))))&&(source!=1)))] (84:0:2 - 1)
		IfNotBlocked
		reached[8][56] = 1;
		if (!(((((((int)now.faults)>0)&&(now.restored==3))&& !(((now.journal==3)||(now.journal==2))))&&(now.source!=1))))
			continue;
		/* merge: restored = 1(84, 57, 84) */
		reached[8][57] = 1;
		(trpt+1)->bup.ovals = grab_ints(2);
		(trpt+1)->bup.ovals[0] = now.restored;
		now.restored = 1;
#ifdef VAR_RANGES
		logval("restored", now.restored);
#endif
		;
		/* merge: faults = (faults-1)(84, 58, 84) */
		reached[8][58] = 1;
		(trpt+1)->bup.ovals[1] = ((int)now.faults);
		now.faults = (((int)now.faults)-1);
#ifdef VAR_RANGES
		logval("faults", ((int)now.faults));
#endif
		;
		/* merge: .(goto)(0, 85, 84) */
		reached[8][85] = 1;
		;
		_m = 3; goto P999; /* 3 */
	case 55: // STATE 60 - migration.pml:425 - [((((faults>0)&&(source!=1))&&!(((journal==3)||(journal==2)))))] (84:0:3 - 1)
		IfNotBlocked
		reached[8][60] = 1;
		if (!((((((int)now.faults)>0)&&(now.source!=1))&& !(((now.journal==3)||(now.journal==2))))))
			continue;
		/* merge: source = 1(84, 61, 84) */
		reached[8][61] = 1;
		(trpt+1)->bup.ovals = grab_ints(3);
		(trpt+1)->bup.ovals[0] = now.source;
		now.source = 1;
#ifdef VAR_RANGES
		logval("source", now.source);
#endif
		;
		/* merge: source_killed = 1(84, 62, 84) */
		reached[8][62] = 1;
		(trpt+1)->bup.ovals[1] = ((int)now.source_killed);
		now.source_killed = 1;
#ifdef VAR_RANGES
		logval("source_killed", ((int)now.source_killed));
#endif
		;
		/* merge: faults = (faults-1)(84, 63, 84) */
		reached[8][63] = 1;
		(trpt+1)->bup.ovals[2] = ((int)now.faults);
		now.faults = (((int)now.faults)-1);
#ifdef VAR_RANGES
		logval("faults", ((int)now.faults));
#endif
		;
		/* merge: .(goto)(0, 85, 84) */
		reached[8][85] = 1;
		;
		_m = 3; goto P999; /* 4 */
	case 56: // STATE 65 - migration.pml:427 - [((((faults>0)&&!(src_rebooted))&&!(((journal==3)||(journal==2)))))] (84:0:8 - 1)
		IfNotBlocked
		reached[8][65] = 1;
		if (!((((((int)now.faults)>0)&& !(((int)now.src_rebooted)))&& !(((now.journal==3)||(now.journal==2))))))
			continue;
		/* merge: faults = (faults-1)(84, 66, 84) */
		reached[8][66] = 1;
		(trpt+1)->bup.ovals = grab_ints(8);
		(trpt+1)->bup.ovals[0] = ((int)now.faults);
		now.faults = (((int)now.faults)-1);
#ifdef VAR_RANGES
		logval("faults", ((int)now.faults));
#endif
		;
		/* merge: src_rebooted = 1(84, 67, 84) */
		reached[8][67] = 1;
		(trpt+1)->bup.ovals[1] = ((int)now.src_rebooted);
		now.src_rebooted = 1;
#ifdef VAR_RANGES
		logval("src_rebooted", ((int)now.src_rebooted));
#endif
		;
		/* merge: driver = 0(84, 68, 84) */
		reached[8][68] = 1;
		(trpt+1)->bup.ovals[2] = ((int)now.driver);
		now.driver = 0;
#ifdef VAR_RANGES
		logval("driver", ((int)now.driver));
#endif
		;
		/* merge: server = 0(84, 69, 84) */
		reached[8][69] = 1;
		(trpt+1)->bup.ovals[3] = ((int)now.server);
		now.server = 0;
#ifdef VAR_RANGES
		logval("server", ((int)now.server));
#endif
		;
		/* merge: guardian = 0(84, 70, 84) */
		reached[8][70] = 1;
		(trpt+1)->bup.ovals[4] = ((int)now.guardian);
		now.guardian = 0;
#ifdef VAR_RANGES
		logval("guardian", ((int)now.guardian));
#endif
		;
		/* merge: dump = 0(84, 71, 84) */
		reached[8][71] = 1;
		(trpt+1)->bup.ovals[5] = ((int)now.dump);
		now.dump = 0;
#ifdef VAR_RANGES
		logval("dump", ((int)now.dump));
#endif
		;
		/* merge: source = 1(84, 72, 84) */
		reached[8][72] = 1;
		(trpt+1)->bup.ovals[6] = now.source;
		now.source = 1;
#ifdef VAR_RANGES
		logval("source", now.source);
#endif
		;
		/* merge: journal = disk(84, 73, 84) */
		reached[8][73] = 1;
		(trpt+1)->bup.ovals[7] = now.journal;
		now.journal = now.disk;
#ifdef VAR_RANGES
		logval("journal", now.journal);
#endif
		;
		/* merge: .(goto)(0, 85, 84) */
		reached[8][85] = 1;
		;
		_m = 3; goto P999; /* 9 */
	case 57: // STATE 75 - migration.pml:429 - [((((faults>0)&&!(((journal==3)||(journal==2))))&&(agent||(restored!=5))))] (84:0:7 - 1)
		IfNotBlocked
		reached[8][75] = 1;
		if (!((((((int)now.faults)>0)&& !(((now.journal==3)||(now.journal==2))))&&(((int)now.agent)||(now.restored!=5)))))
			continue;
		/* merge: faults = (faults-1)(84, 76, 84) */
		reached[8][76] = 1;
		(trpt+1)->bup.ovals = grab_ints(7);
		(trpt+1)->bup.ovals[0] = ((int)now.faults);
		now.faults = (((int)now.faults)-1);
#ifdef VAR_RANGES
		logval("faults", ((int)now.faults));
#endif
		;
		/* merge: agent = 0(84, 77, 84) */
		reached[8][77] = 1;
		(trpt+1)->bup.ovals[1] = ((int)now.agent);
		now.agent = 0;
#ifdef VAR_RANGES
		logval("agent", ((int)now.agent));
#endif
		;
		/* merge: keeper = 0(84, 78, 84) */
		reached[8][78] = 1;
		(trpt+1)->bup.ovals[2] = ((int)now.keeper);
		now.keeper = 0;
#ifdef VAR_RANGES
		logval("keeper", ((int)now.keeper));
#endif
		;
		/* merge: daemon = 0(84, 79, 84) */
		reached[8][79] = 1;
		(trpt+1)->bup.ovals[3] = ((int)now.daemon);
		now.daemon = 0;
#ifdef VAR_RANGES
		logval("daemon", ((int)now.daemon));
#endif
		;
		/* merge: holder = 0(84, 80, 84) */
		reached[8][80] = 1;
		(trpt+1)->bup.ovals[4] = ((int)now.holder);
		now.holder = 0;
#ifdef VAR_RANGES
		logval("holder", ((int)now.holder));
#endif
		;
		/* merge: restore = 0(84, 81, 84) */
		reached[8][81] = 1;
		(trpt+1)->bup.ovals[5] = ((int)now.restore);
		now.restore = 0;
#ifdef VAR_RANGES
		logval("restore", ((int)now.restore));
#endif
		;
		/* merge: restored = ( ((restored==3)) -> (2) : (( ((restored==4)) -> (5) : (restored) )) )(84, 82, 84) */
		reached[8][82] = 1;
		(trpt+1)->bup.ovals[6] = now.restored;
		now.restored = ( ((now.restored==3)) ? (2) : (( ((now.restored==4)) ? (5) : (now.restored) )) );
#ifdef VAR_RANGES
		logval("restored", now.restored);
#endif
		;
		/* merge: .(goto)(0, 85, 84) */
		reached[8][85] = 1;
		;
		_m = 3; goto P999; /* 8 */
	case 58: // STATE 87 - migration.pml:433 - [-end-] (0:0:0 - 1)
		IfNotBlocked
		reached[8][87] = 1;
		if (!delproc(1, II)) continue;
		_m = 3; goto P999; /* 0 */

		 /* PROC Daemon */
	case 59: // STATE 1 - migration.pml:382 - [(((((((((daemon&&(restored==3))&&missing)&&!(zeroed))&&link_up)&&server)&&dump)&&(wire==3))&&((source==3)||source_killed)))] (26:0:1 - 1)
		IfNotBlocked
		reached[7][1] = 1;
		if (!(((((((((((int)now.daemon)&&(now.restored==3))&&((int)now.missing))&& !(((int)now.zeroed)))&&((int)now.link_up))&&((int)now.server))&&((int)now.dump))&&(now.wire==3))&&((now.source==3)||((int)now.source_killed)))))
			continue;
		/* merge: missing = 0(0, 2, 26) */
		reached[7][2] = 1;
		(trpt+1)->bup.oval = ((int)now.missing);
		now.missing = 0;
#ifdef VAR_RANGES
		logval("missing", ((int)now.missing));
#endif
		;
		/* merge: .(goto)(0, 27, 26) */
		reached[7][27] = 1;
		;
		_m = 3; goto P999; /* 2 */
	case 60: // STATE 4 - migration.pml:383 - [((((daemon&&(((restored==3)&&!(missing))||(restored==1)))&&link_up)&&server))] (26:0:4 - 1)
		IfNotBlocked
		reached[7][4] = 1;
		if (!((((((int)now.daemon)&&(((now.restored==3)&& !(((int)now.missing)))||(now.restored==1)))&&((int)now.link_up))&&((int)now.server))))
			continue;
		/* merge: drained = 1(26, 5, 26) */
		reached[7][5] = 1;
		(trpt+1)->bup.ovals = grab_ints(4);
		(trpt+1)->bup.ovals[0] = ((int)now.drained);
		now.drained = 1;
#ifdef VAR_RANGES
		logval("drained", ((int)now.drained));
#endif
		;
		/* merge: daemon = 0(26, 6, 26) */
		reached[7][6] = 1;
		(trpt+1)->bup.ovals[1] = ((int)now.daemon);
		now.daemon = 0;
#ifdef VAR_RANGES
		logval("daemon", ((int)now.daemon));
#endif
		;
		/* merge: holder = 0(26, 7, 26) */
		reached[7][7] = 1;
		(trpt+1)->bup.ovals[2] = ((int)now.holder);
		now.holder = 0;
#ifdef VAR_RANGES
		logval("holder", ((int)now.holder));
#endif
		;
		/* merge: daemon_end = 3(26, 8, 26) */
		reached[7][8] = 1;
		(trpt+1)->bup.ovals[3] = now.daemon_end;
		now.daemon_end = 3;
#ifdef VAR_RANGES
		logval("daemon_end", now.daemon_end);
#endif
		;
		/* merge: .(goto)(0, 27, 26) */
		reached[7][27] = 1;
		;
		_m = 3; goto P999; /* 5 */
	case 61: // STATE 10 - migration.pml:385 - [((((daemon&&(restored==2))&&(daemon_end==4))&&(link_up||missing)))] (0:0:0 - 1)
		IfNotBlocked
		reached[7][10] = 1;
		if (!((((((int)now.daemon)&&(now.restored==2))&&(now.daemon_end==4))&&(((int)now.link_up)||((int)now.missing)))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 62: // STATE 11 - migration.pml:390 - [(missing)] (26:0:3 - 1)
		IfNotBlocked
		reached[7][11] = 1;
		if (!(((int)now.missing)))
			continue;
		/* merge: daemon_end = 2(26, 12, 26) */
		reached[7][12] = 1;
		(trpt+1)->bup.ovals = grab_ints(3);
		(trpt+1)->bup.ovals[0] = now.daemon_end;
		now.daemon_end = 2;
#ifdef VAR_RANGES
		logval("daemon_end", now.daemon_end);
#endif
		;
		/* merge: .(goto)(26, 19, 26) */
		reached[7][19] = 1;
		;
		/* merge: daemon = 0(26, 20, 26) */
		reached[7][20] = 1;
		(trpt+1)->bup.ovals[1] = ((int)now.daemon);
		now.daemon = 0;
#ifdef VAR_RANGES
		logval("daemon", ((int)now.daemon));
#endif
		;
		/* merge: holder = 0(26, 21, 26) */
		reached[7][21] = 1;
		(trpt+1)->bup.ovals[2] = ((int)now.holder);
		now.holder = 0;
#ifdef VAR_RANGES
		logval("holder", ((int)now.holder));
#endif
		;
		/* merge: .(goto)(0, 27, 26) */
		reached[7][27] = 1;
		;
		_m = 3; goto P999; /* 5 */
	case 63: // STATE 13 - migration.pml:391 - [((!(missing)&&server))] (26:0:4 - 1)
		IfNotBlocked
		reached[7][13] = 1;
		if (!(( !(((int)now.missing))&&((int)now.server))))
			continue;
		/* merge: drained = 1(26, 14, 26) */
		reached[7][14] = 1;
		(trpt+1)->bup.ovals = grab_ints(4);
		(trpt+1)->bup.ovals[0] = ((int)now.drained);
		now.drained = 1;
#ifdef VAR_RANGES
		logval("drained", ((int)now.drained));
#endif
		;
		/* merge: daemon_end = 3(26, 15, 26) */
		reached[7][15] = 1;
		(trpt+1)->bup.ovals[1] = now.daemon_end;
		now.daemon_end = 3;
#ifdef VAR_RANGES
		logval("daemon_end", now.daemon_end);
#endif
		;
		/* merge: .(goto)(26, 19, 26) */
		reached[7][19] = 1;
		;
		/* merge: daemon = 0(26, 20, 26) */
		reached[7][20] = 1;
		(trpt+1)->bup.ovals[2] = ((int)now.daemon);
		now.daemon = 0;
#ifdef VAR_RANGES
		logval("daemon", ((int)now.daemon));
#endif
		;
		/* merge: holder = 0(26, 21, 26) */
		reached[7][21] = 1;
		(trpt+1)->bup.ovals[3] = ((int)now.holder);
		now.holder = 0;
#ifdef VAR_RANGES
		logval("holder", ((int)now.holder));
#endif
		;
		/* merge: .(goto)(0, 27, 26) */
		reached[7][27] = 1;
		;
		_m = 3; goto P999; /* 6 */
	case 64: // STATE 16 - migration.pml:392 - [((!(missing)&&!(server)))] (26:0:3 - 1)
		IfNotBlocked
		reached[7][16] = 1;
		if (!(( !(((int)now.missing))&& !(((int)now.server)))))
			continue;
		/* merge: daemon_end = 1(26, 17, 26) */
		reached[7][17] = 1;
		(trpt+1)->bup.ovals = grab_ints(3);
		(trpt+1)->bup.ovals[0] = now.daemon_end;
		now.daemon_end = 1;
#ifdef VAR_RANGES
		logval("daemon_end", now.daemon_end);
#endif
		;
		/* merge: .(goto)(26, 19, 26) */
		reached[7][19] = 1;
		;
		/* merge: daemon = 0(26, 20, 26) */
		reached[7][20] = 1;
		(trpt+1)->bup.ovals[1] = ((int)now.daemon);
		now.daemon = 0;
#ifdef VAR_RANGES
		logval("daemon", ((int)now.daemon));
#endif
		;
		/* merge: holder = 0(26, 21, 26) */
		reached[7][21] = 1;
		(trpt+1)->bup.ovals[2] = ((int)now.holder);
		now.holder = 0;
#ifdef VAR_RANGES
		logval("holder", ((int)now.holder));
#endif
		;
		/* merge: .(goto)(0, 27, 26) */
		reached[7][27] = 1;
		;
		_m = 3; goto P999; /* 5 */
	case 65: // STATE 20 - migration.pml:395 - [daemon = 0] (0:26:2 - 4)
		IfNotBlocked
		reached[7][20] = 1;
		(trpt+1)->bup.ovals = grab_ints(2);
		(trpt+1)->bup.ovals[0] = ((int)now.daemon);
		now.daemon = 0;
#ifdef VAR_RANGES
		logval("daemon", ((int)now.daemon));
#endif
		;
		/* merge: holder = 0(26, 21, 26) */
		reached[7][21] = 1;
		(trpt+1)->bup.ovals[1] = ((int)now.holder);
		now.holder = 0;
#ifdef VAR_RANGES
		logval("holder", ((int)now.holder));
#endif
		;
		/* merge: .(goto)(0, 27, 26) */
		reached[7][27] = 1;
		;
		_m = 3; goto P999; /* 2 */
	case 66: // STATE 23 - migration.pml:396 - [(((((!(daemon)&&!(holder))&&(restored==3))&&missing)&&!(zeroed)))] (26:0:1 - 1)
		IfNotBlocked
		reached[7][23] = 1;
		if (!((((( !(((int)now.daemon))&& !(((int)now.holder)))&&(now.restored==3))&&((int)now.missing))&& !(((int)now.zeroed)))))
			continue;
		/* merge: zeroed = 1(0, 24, 26) */
		reached[7][24] = 1;
		(trpt+1)->bup.oval = ((int)now.zeroed);
		now.zeroed = 1;
#ifdef VAR_RANGES
		logval("zeroed", ((int)now.zeroed));
#endif
		;
		/* merge: .(goto)(0, 27, 26) */
		reached[7][27] = 1;
		;
		_m = 3; goto P999; /* 2 */
	case 67: // STATE 29 - migration.pml:398 - [-end-] (0:0:0 - 1)
		IfNotBlocked
		reached[7][29] = 1;
		if (!delproc(1, II)) continue;
		_m = 3; goto P999; /* 0 */

		 /* PROC Restore */
	case 68: // STATE 1 - migration.pml:372 - [(((restore&&gate)&&(restored==4)))] (0:0:0 - 1)
		IfNotBlocked
		reached[6][1] = 1;
		if (!(((((int)now.restore)&&((int)now.gate))&&(now.restored==4))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 69: // STATE 2 - migration.pml:373 - [(restore)] (0:0:0 - 1)
		IfNotBlocked
		reached[6][2] = 1;
		if (!(((int)now.restore)))
			continue;
		_m = 3; goto P999; /* 0 */
	case 70: // STATE 5 - migration.pml:373 - [(!(restore))] (0:0:0 - 3)
		IfNotBlocked
		reached[6][5] = 1;
		if (!( !(((int)now.restore))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 71: // STATE 3 - migration.pml:373 - [restored = 3] (0:0:1 - 1)
		IfNotBlocked
		reached[6][3] = 1;
		(trpt+1)->bup.oval = now.restored;
		now.restored = 3;
#ifdef VAR_RANGES
		logval("restored", now.restored);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 72: // STATE 4 - migration.pml:373 - [restore = 0] (0:0:1 - 1)
		IfNotBlocked
		reached[6][4] = 1;
		(trpt+1)->bup.oval = ((int)now.restore);
		now.restore = 0;
#ifdef VAR_RANGES
		logval("restore", ((int)now.restore));
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 73: // STATE 9 - migration.pml:374 - [(((restore&&!(gate))&&!(agent)))] (13:0:2 - 1)
		IfNotBlocked
		reached[6][9] = 1;
		if (!(((((int)now.restore)&& !(((int)now.gate)))&& !(((int)now.agent)))))
			continue;
		/* merge: restored = 5(13, 10, 13) */
		reached[6][10] = 1;
		(trpt+1)->bup.ovals = grab_ints(2);
		(trpt+1)->bup.ovals[0] = now.restored;
		now.restored = 5;
#ifdef VAR_RANGES
		logval("restored", now.restored);
#endif
		;
		/* merge: restore = 0(13, 11, 13) */
		reached[6][11] = 1;
		(trpt+1)->bup.ovals[1] = ((int)now.restore);
		now.restore = 0;
#ifdef VAR_RANGES
		logval("restore", ((int)now.restore));
#endif
		;
		/* merge: .(goto)(0, 14, 13) */
		reached[6][14] = 1;
		;
		_m = 3; goto P999; /* 3 */
	case 74: // STATE 16 - migration.pml:376 - [-end-] (0:0:0 - 1)
		IfNotBlocked
		reached[6][16] = 1;
		if (!delproc(1, II)) continue;
		_m = 3; goto P999; /* 0 */

		 /* PROC Keeper */
	case 75: // STATE 1 - migration.pml:363 - [(!(agent))] (0:0:0 - 1)
		IfNotBlocked
		reached[5][1] = 1;
		if (!( !(((int)now.agent))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 76: // STATE 14 - migration.pml:366 - [(!(keeper))] (0:0:0 - 9)
		IfNotBlocked
		reached[5][14] = 1;
		if (!( !(((int)now.keeper))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 77: // STATE 2 - migration.pml:364 - [(!(running))] (0:0:0 - 1)
		IfNotBlocked
		reached[5][2] = 1;
		if (!( !(((int)now.running))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 78: // STATE 3 - migration.pml:333 - [restored = ( ((restored==4)) -> (5) : (restored) )] (0:0:1 - 1)
		IfNotBlocked
		reached[5][3] = 1;
		(trpt+1)->bup.oval = now.restored;
		now.restored = ( ((now.restored==4)) ? (5) : (now.restored) );
#ifdef VAR_RANGES
		logval("restored", now.restored);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 79: // STATE 4 - migration.pml:333 - [restore = 0] (0:0:1 - 1)
		IfNotBlocked
		reached[5][4] = 1;
		(trpt+1)->bup.oval = ((int)now.restore);
		now.restore = 0;
#ifdef VAR_RANGES
		logval("restore", ((int)now.restore));
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 80: // STATE 5 - migration.pml:333 - [daemon = 0] (0:0:1 - 1)
		IfNotBlocked
		reached[5][5] = 1;
		(trpt+1)->bup.oval = ((int)now.daemon);
		now.daemon = 0;
#ifdef VAR_RANGES
		logval("daemon", ((int)now.daemon));
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 81: // STATE 6 - migration.pml:333 - [holder = 0] (0:0:1 - 1)
		IfNotBlocked
		reached[5][6] = 1;
		(trpt+1)->bup.oval = ((int)now.holder);
		now.holder = 0;
#ifdef VAR_RANGES
		logval("holder", ((int)now.holder));
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 82: // STATE 7 - migration.pml:334 - [agent = 0] (0:0:1 - 1)
		IfNotBlocked
		reached[5][7] = 1;
		(trpt+1)->bup.oval = ((int)now.agent);
		now.agent = 0;
#ifdef VAR_RANGES
		logval("agent", ((int)now.agent));
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 83: // STATE 8 - migration.pml:334 - [keeper = 0] (0:0:1 - 1)
		IfNotBlocked
		reached[5][8] = 1;
		(trpt+1)->bup.oval = ((int)now.keeper);
		now.keeper = 0;
#ifdef VAR_RANGES
		logval("keeper", ((int)now.keeper));
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 84: // STATE 11 - migration.pml:365 - [(running)] (0:0:0 - 1)
		IfNotBlocked
		reached[5][11] = 1;
		if (!(((int)now.running)))
			continue;
		_m = 3; goto P999; /* 0 */
	case 85: // STATE 17 - migration.pml:367 - [-end-] (0:0:0 - 5)
		IfNotBlocked
		reached[5][17] = 1;
		if (!delproc(1, II)) continue;
		_m = 3; goto P999; /* 0 */

		 /* PROC Agent */
	case 86: // STATE 1 - migration.pml:340 - [(((want_daemon&&link_up)&&driver))] (0:0:0 - 1)
		IfNotBlocked
		reached[4][1] = 1;
		if (!(((((int)now.want_daemon)&&((int)now.link_up))&&((int)now.driver))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 87: // STATE 52 - migration.pml:358 - [(!(agent))] (0:0:0 - 36)
		IfNotBlocked
		reached[4][52] = 1;
		if (!( !(((int)now.agent))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 88: // STATE 2 - migration.pml:340 - [daemon = 1] (0:0:1 - 1)
		IfNotBlocked
		reached[4][2] = 1;
		(trpt+1)->bup.oval = ((int)now.daemon);
		now.daemon = 1;
#ifdef VAR_RANGES
		logval("daemon", ((int)now.daemon));
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 89: // STATE 3 - migration.pml:340 - [holder = 1] (0:0:1 - 1)
		IfNotBlocked
		reached[4][3] = 1;
		(trpt+1)->bup.oval = ((int)now.holder);
		now.holder = 1;
#ifdef VAR_RANGES
		logval("holder", ((int)now.holder));
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 90: // STATE 4 - migration.pml:340 - [want_daemon = 0] (0:0:1 - 1)
		IfNotBlocked
		reached[4][4] = 1;
		(trpt+1)->bup.oval = ((int)now.want_daemon);
		now.want_daemon = 0;
#ifdef VAR_RANGES
		logval("want_daemon", ((int)now.want_daemon));
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 91: // STATE 6 - migration.pml:341 - [(((want_restore&&link_up)&&driver))] (0:0:0 - 1)
		IfNotBlocked
		reached[4][6] = 1;
		if (!(((((int)now.want_restore)&&((int)now.link_up))&&((int)now.driver))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 92: // STATE 7 - migration.pml:341 - [restore = 1] (0:0:1 - 1)
		IfNotBlocked
		reached[4][7] = 1;
		(trpt+1)->bup.oval = ((int)now.restore);
		now.restore = 1;
#ifdef VAR_RANGES
		logval("restore", ((int)now.restore));
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 93: // STATE 8 - migration.pml:341 - [restored = 4] (0:0:1 - 1)
		IfNotBlocked
		reached[4][8] = 1;
		(trpt+1)->bup.oval = now.restored;
		now.restored = 4;
#ifdef VAR_RANGES
		logval("restored", now.restored);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 94: // STATE 9 - migration.pml:341 - [want_restore = 0] (0:0:1 - 1)
		IfNotBlocked
		reached[4][9] = 1;
		(trpt+1)->bup.oval = ((int)now.want_restore);
		now.want_restore = 0;
#ifdef VAR_RANGES
		logval("want_restore", ((int)now.want_restore));
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 95: // STATE 11 - migration.pml:342 - [(((((restored==4)&&restore)&&!(asked))&&link_up))] (0:0:0 - 1)
		IfNotBlocked
		reached[4][11] = 1;
		if (!(((((now.restored==4)&&((int)now.restore))&& !(((int)now.asked)))&&((int)now.link_up))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 96: // STATE 12 - migration.pml:342 - [asked = 1] (0:0:1 - 1)
		IfNotBlocked
		reached[4][12] = 1;
		(trpt+1)->bup.oval = ((int)now.asked);
		now.asked = 1;
#ifdef VAR_RANGES
		logval("asked", ((int)now.asked));
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 97: // STATE 14 - migration.pml:343 - [(((((went&&link_up)&&!(running))&&restore)&&!(failed_said)))] (0:0:0 - 1)
		IfNotBlocked
		reached[4][14] = 1;
		if (!(((((((int)now.went)&&((int)now.link_up))&& !(((int)now.running)))&&((int)now.restore))&& !(((int)now.failed_said)))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 98: // STATE 15 - migration.pml:344 - [running = 1] (0:0:1 - 1)
		IfNotBlocked
		reached[4][15] = 1;
		(trpt+1)->bup.oval = ((int)now.running);
		now.running = 1;
#ifdef VAR_RANGES
		logval("running", ((int)now.running));
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 99: // STATE 16 - migration.pml:345 - [gate = 1] (0:0:1 - 1)
		IfNotBlocked
		reached[4][16] = 1;
		(trpt+1)->bup.oval = ((int)now.gate);
		now.gate = 1;
#ifdef VAR_RANGES
		logval("gate", ((int)now.gate));
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 100: // STATE 17 - migration.pml:346 - [((!(running)&&(!(driver)||!(link_up))))] (0:0:0 - 1)
		IfNotBlocked
		reached[4][17] = 1;
		if (!(( !(((int)now.running))&&( !(((int)now.driver))|| !(((int)now.link_up))))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 101: // STATE 19 - migration.pml:347 - [((((((asked&&!(restore))&&!(gate))&&(restored!=3))&&!(failed_said))&&link_up))] (0:0:0 - 1)
		IfNotBlocked
		reached[4][19] = 1;
		if (!((((((((int)now.asked)&& !(((int)now.restore)))&& !(((int)now.gate)))&&(now.restored!=3))&& !(((int)now.failed_said)))&&((int)now.link_up))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 102: // STATE 20 - migration.pml:348 - [restored = 5] (0:0:1 - 1)
		IfNotBlocked
		reached[4][20] = 1;
		(trpt+1)->bup.oval = now.restored;
		now.restored = 5;
#ifdef VAR_RANGES
		logval("restored", now.restored);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 103: // STATE 21 - migration.pml:348 - [failed_said = 1] (0:0:1 - 1)
		IfNotBlocked
		reached[4][21] = 1;
		(trpt+1)->bup.oval = ((int)now.failed_said);
		now.failed_said = 1;
#ifdef VAR_RANGES
		logval("failed_said", ((int)now.failed_said));
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 104: // STATE 22 - migration.pml:348 - [running = 0] (0:0:1 - 1)
		IfNotBlocked
		reached[4][22] = 1;
		(trpt+1)->bup.oval = ((int)now.running);
		now.running = 0;
#ifdef VAR_RANGES
		logval("running", ((int)now.running));
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 105: // STATE 24 - migration.pml:349 - [(((((gate&&!(restore))&&link_up)&&!(restored_said))&&(restored!=5)))] (0:0:0 - 1)
		IfNotBlocked
		reached[4][24] = 1;
		if (!(((((((int)now.gate)&& !(((int)now.restore)))&&((int)now.link_up))&& !(((int)now.restored_said)))&&(now.restored!=5))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 106: // STATE 25 - migration.pml:349 - [restored_said = 1] (0:0:1 - 1)
		IfNotBlocked
		reached[4][25] = 1;
		(trpt+1)->bup.oval = ((int)now.restored_said);
		now.restored_said = 1;
#ifdef VAR_RANGES
		logval("restored_said", ((int)now.restored_said));
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 107: // STATE 27 - migration.pml:350 - [(((((gate&&!(restore))&&link_up)&&(restored==5))&&!(may_run_said)))] (0:0:0 - 1)
		IfNotBlocked
		reached[4][27] = 1;
		if (!(((((((int)now.gate)&& !(((int)now.restore)))&&((int)now.link_up))&&(now.restored==5))&& !(((int)now.may_run_said)))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 108: // STATE 28 - migration.pml:350 - [may_run_said = 1] (0:0:1 - 1)
		IfNotBlocked
		reached[4][28] = 1;
		(trpt+1)->bup.oval = ((int)now.may_run_said);
		now.may_run_said = 1;
#ifdef VAR_RANGES
		logval("may_run_said", ((int)now.may_run_said));
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 109: // STATE 30 - migration.pml:351 - [((((running&&!(daemon))&&(daemon_end==4))&&!(want_daemon)))] (0:0:0 - 1)
		IfNotBlocked
		reached[4][30] = 1;
		if (!((((((int)now.running)&& !(((int)now.daemon)))&&(now.daemon_end==4))&& !(((int)now.want_daemon)))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 110: // STATE 31 - migration.pml:353 - [(holder)] (0:0:0 - 1)
		IfNotBlocked
		reached[4][31] = 1;
		if (!(((int)now.holder)))
			continue;
		_m = 3; goto P999; /* 0 */
	case 111: // STATE 32 - migration.pml:353 - [daemon = 1] (0:0:1 - 1)
		IfNotBlocked
		reached[4][32] = 1;
		(trpt+1)->bup.oval = ((int)now.daemon);
		now.daemon = 1;
#ifdef VAR_RANGES
		logval("daemon", ((int)now.daemon));
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 112: // STATE 33 - migration.pml:354 - [(!(holder))] (0:0:0 - 1)
		IfNotBlocked
		reached[4][33] = 1;
		if (!( !(((int)now.holder))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 113: // STATE 34 - migration.pml:354 - [daemon_end = 1] (0:0:1 - 1)
		IfNotBlocked
		reached[4][34] = 1;
		(trpt+1)->bup.oval = now.daemon_end;
		now.daemon_end = 1;
#ifdef VAR_RANGES
		logval("daemon_end", now.daemon_end);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 114: // STATE 38 - migration.pml:356 - [((((asked&&!(running))&&!(daemon))&&(daemon_end==4)))] (0:0:0 - 1)
		IfNotBlocked
		reached[4][38] = 1;
		if (!((((((int)now.asked)&& !(((int)now.running)))&& !(((int)now.daemon)))&&(now.daemon_end==4))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 115: // STATE 39 - migration.pml:356 - [daemon_end = 1] (0:0:1 - 1)
		IfNotBlocked
		reached[4][39] = 1;
		(trpt+1)->bup.oval = now.daemon_end;
		now.daemon_end = 1;
#ifdef VAR_RANGES
		logval("daemon_end", now.daemon_end);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 116: // STATE 44 - migration.pml:333 - [restored = ( ((restored==4)) -> (5) : (restored) )] (0:0:1 - 1)
		IfNotBlocked
		reached[4][44] = 1;
		(trpt+1)->bup.oval = now.restored;
		now.restored = ( ((now.restored==4)) ? (5) : (now.restored) );
#ifdef VAR_RANGES
		logval("restored", now.restored);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 117: // STATE 45 - migration.pml:333 - [restore = 0] (0:0:1 - 1)
		IfNotBlocked
		reached[4][45] = 1;
		(trpt+1)->bup.oval = ((int)now.restore);
		now.restore = 0;
#ifdef VAR_RANGES
		logval("restore", ((int)now.restore));
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 118: // STATE 46 - migration.pml:333 - [daemon = 0] (0:0:1 - 1)
		IfNotBlocked
		reached[4][46] = 1;
		(trpt+1)->bup.oval = ((int)now.daemon);
		now.daemon = 0;
#ifdef VAR_RANGES
		logval("daemon", ((int)now.daemon));
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 119: // STATE 47 - migration.pml:333 - [holder = 0] (0:0:1 - 1)
		IfNotBlocked
		reached[4][47] = 1;
		(trpt+1)->bup.oval = ((int)now.holder);
		now.holder = 0;
#ifdef VAR_RANGES
		logval("holder", ((int)now.holder));
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 120: // STATE 48 - migration.pml:334 - [agent = 0] (0:0:1 - 1)
		IfNotBlocked
		reached[4][48] = 1;
		(trpt+1)->bup.oval = ((int)now.agent);
		now.agent = 0;
#ifdef VAR_RANGES
		logval("agent", ((int)now.agent));
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 121: // STATE 49 - migration.pml:334 - [keeper = 0] (0:0:1 - 1)
		IfNotBlocked
		reached[4][49] = 1;
		(trpt+1)->bup.oval = ((int)now.keeper);
		now.keeper = 0;
#ifdef VAR_RANGES
		logval("keeper", ((int)now.keeper));
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 122: // STATE 55 - migration.pml:359 - [-end-] (0:0:0 - 3)
		IfNotBlocked
		reached[4][55] = 1;
		if (!delproc(1, II)) continue;
		_m = 3; goto P999; /* 0 */

		 /* PROC Driver */
	case 123: // STATE 1 - migration.pml:210 - [server = 1] (0:0:1 - 1)
		IfNotBlocked
		reached[3][1] = 1;
		(trpt+1)->bup.oval = ((int)now.server);
		now.server = 1;
#ifdef VAR_RANGES
		logval("server", ((int)now.server));
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 124: // STATE 207 - migration.pml:320 - [(!(driver))] (0:0:0 - 103)
		IfNotBlocked
		reached[3][207] = 1;
		if (!( !(((int)now.driver))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 125: // STATE 2 - migration.pml:185 - [journal = 11] (0:0:1 - 1)
		IfNotBlocked
		reached[3][2] = 1;
		(trpt+1)->bup.oval = now.journal;
		now.journal = 11;
#ifdef VAR_RANGES
		logval("journal", now.journal);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 126: // STATE 3 - migration.pml:185 - [disk = 11] (0:0:1 - 1)
		IfNotBlocked
		reached[3][3] = 1;
		(trpt+1)->bup.oval = now.disk;
		now.disk = 11;
#ifdef VAR_RANGES
		logval("disk", now.disk);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 127: // STATE 7 - migration.pml:185 - [journal = 10] (0:0:1 - 1)
		IfNotBlocked
		reached[3][7] = 1;
		(trpt+1)->bup.oval = now.journal;
		now.journal = 10;
#ifdef VAR_RANGES
		logval("journal", now.journal);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 128: // STATE 8 - migration.pml:185 - [disk = 10] (0:0:1 - 1)
		IfNotBlocked
		reached[3][8] = 1;
		(trpt+1)->bup.oval = now.disk;
		now.disk = 10;
#ifdef VAR_RANGES
		logval("disk", now.disk);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 129: // STATE 11 - migration.pml:212 - [dump = 1] (0:0:1 - 1)
		IfNotBlocked
		reached[3][11] = 1;
		(trpt+1)->bup.oval = ((int)now.dump);
		now.dump = 1;
#ifdef VAR_RANGES
		logval("dump", ((int)now.dump));
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 130: // STATE 12 - migration.pml:212 - [source = 3] (0:0:1 - 1)
		IfNotBlocked
		reached[3][12] = 1;
		(trpt+1)->bup.oval = now.source;
		now.source = 3;
#ifdef VAR_RANGES
		logval("source", now.source);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 131: // STATE 13 - migration.pml:212 - [guardian = 1] (0:0:1 - 1)
		IfNotBlocked
		reached[3][13] = 1;
		(trpt+1)->bup.oval = ((int)now.guardian);
		now.guardian = 1;
#ifdef VAR_RANGES
		logval("guardian", ((int)now.guardian));
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 132: // STATE 15 - migration.pml:192 - [journal = 9] (0:0:1 - 1)
		IfNotBlocked
		reached[3][15] = 1;
		(trpt+1)->bup.oval = now.journal;
		now.journal = 9;
#ifdef VAR_RANGES
		logval("journal", now.journal);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 133: // STATE 16 - migration.pml:194 - [disk = 9] (0:0:1 - 1)
		IfNotBlocked
		reached[3][16] = 1;
		(trpt+1)->bup.oval = now.disk;
		now.disk = 9;
#ifdef VAR_RANGES
		logval("disk", now.disk);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 134: // STATE 22 - migration.pml:215 - [((((!(dump)||!(server))||(!(agent)||!(link_up)))||sigint))] (0:0:0 - 1)
		IfNotBlocked
		reached[3][22] = 1;
		if (!(((( !(((int)now.dump))|| !(((int)now.server)))||( !(((int)now.agent))|| !(((int)now.link_up))))||((int)now.sigint))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 135: // STATE 26 - migration.pml:217 - [want_daemon = 1] (0:0:1 - 2)
		IfNotBlocked
		reached[3][26] = 1;
		(trpt+1)->bup.oval = ((int)now.want_daemon);
		now.want_daemon = 1;
#ifdef VAR_RANGES
		logval("want_daemon", ((int)now.want_daemon));
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 136: // STATE 27 - migration.pml:219 - [(daemon)] (0:0:0 - 1)
		IfNotBlocked
		reached[3][27] = 1;
		if (!(((int)now.daemon)))
			continue;
		_m = 3; goto P999; /* 0 */
	case 137: // STATE 28 - migration.pml:192 - [journal = 8] (0:0:1 - 1)
		IfNotBlocked
		reached[3][28] = 1;
		(trpt+1)->bup.oval = now.journal;
		now.journal = 8;
#ifdef VAR_RANGES
		logval("journal", now.journal);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 138: // STATE 29 - migration.pml:194 - [disk = 8] (0:0:1 - 1)
		IfNotBlocked
		reached[3][29] = 1;
		(trpt+1)->bup.oval = now.disk;
		now.disk = 8;
#ifdef VAR_RANGES
		logval("disk", now.disk);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 139: // STATE 35 - migration.pml:220 - [((((!(dump)||!(server))||(!(agent)||!(link_up)))||sigint))] (0:0:0 - 1)
		IfNotBlocked
		reached[3][35] = 1;
		if (!(((( !(((int)now.dump))|| !(((int)now.server)))||( !(((int)now.agent))|| !(((int)now.link_up))))||((int)now.sigint))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 140: // STATE 39 - migration.pml:222 - [want_restore = 1] (0:0:1 - 2)
		IfNotBlocked
		reached[3][39] = 1;
		(trpt+1)->bup.oval = ((int)now.want_restore);
		now.want_restore = 1;
#ifdef VAR_RANGES
		logval("want_restore", ((int)now.want_restore));
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 141: // STATE 40 - migration.pml:224 - [(asked)] (0:0:0 - 1)
		IfNotBlocked
		reached[3][40] = 1;
		if (!(((int)now.asked)))
			continue;
		_m = 3; goto P999; /* 0 */
	case 142: // STATE 41 - migration.pml:225 - [((((((!(dump)||!(server))||(!(agent)||!(link_up)))||sigint)||failed_said)||(daemon_end!=4)))] (0:0:0 - 1)
		IfNotBlocked
		reached[3][41] = 1;
		if (!(((((( !(((int)now.dump))|| !(((int)now.server)))||( !(((int)now.agent))|| !(((int)now.link_up))))||((int)now.sigint))||((int)now.failed_said))||(now.daemon_end!=4))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 143: // STATE 45 - migration.pml:243 - [(disk_full)] (0:0:0 - 1)
		IfNotBlocked
		reached[3][45] = 1;
		if (!(((int)now.disk_full)))
			continue;
		_m = 3; goto P999; /* 0 */
	case 144: // STATE 47 - migration.pml:244 - [(!(disk_full))] (0:0:0 - 1)
		IfNotBlocked
		reached[3][47] = 1;
		if (!( !(((int)now.disk_full))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 145: // STATE 48 - migration.pml:185 - [journal = 7] (0:0:1 - 1)
		IfNotBlocked
		reached[3][48] = 1;
		(trpt+1)->bup.oval = now.journal;
		now.journal = 7;
#ifdef VAR_RANGES
		logval("journal", now.journal);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 146: // STATE 49 - migration.pml:185 - [disk = 7] (0:0:1 - 1)
		IfNotBlocked
		reached[3][49] = 1;
		(trpt+1)->bup.oval = now.disk;
		now.disk = 7;
#ifdef VAR_RANGES
		logval("disk", now.disk);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 147: // STATE 54 - migration.pml:202 - [((server&&(op==4)))] (0:0:0 - 1)
		IfNotBlocked
		reached[3][54] = 1;
		if (!((((int)now.server)&&(now.op==4))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 148: // STATE 55 - migration.pml:202 - [op = 3] (0:0:1 - 1)
		IfNotBlocked
		reached[3][55] = 1;
		(trpt+1)->bup.oval = now.op;
		now.op = 3;
#ifdef VAR_RANGES
		logval("op", now.op);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 149: // STATE 56 - migration.pml:202 - [answer = 3] (0:0:1 - 1)
		IfNotBlocked
		reached[3][56] = 1;
		(trpt+1)->bup.oval = now.answer;
		now.answer = 3;
#ifdef VAR_RANGES
		logval("answer", now.answer);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 150: // STATE 59 - migration.pml:253 - [(((!(dump)||(!(server)&&!(guardian)))||sigint))] (0:0:0 - 1)
		IfNotBlocked
		reached[3][59] = 1;
		if (!((( !(((int)now.dump))||( !(((int)now.server))&& !(((int)now.guardian))))||((int)now.sigint))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 151: // STATE 63 - migration.pml:256 - [((answer==2))] (0:0:0 - 1)
		IfNotBlocked
		reached[3][63] = 1;
		if (!((now.answer==2)))
			continue;
		_m = 3; goto P999; /* 0 */
	case 152: // STATE 64 - migration.pml:256 - [op = 4] (0:0:1 - 1)
		IfNotBlocked
		reached[3][64] = 1;
		(trpt+1)->bup.oval = now.op;
		now.op = 4;
#ifdef VAR_RANGES
		logval("op", now.op);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 153: // STATE 65 - migration.pml:256 - [answer = 3] (0:0:1 - 1)
		IfNotBlocked
		reached[3][65] = 1;
		(trpt+1)->bup.oval = now.answer;
		now.answer = 3;
#ifdef VAR_RANGES
		logval("answer", now.answer);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 154: // STATE 67 - migration.pml:260 - [((answer==1))] (0:0:0 - 1)
		IfNotBlocked
		reached[3][67] = 1;
		if (!((now.answer==1)))
			continue;
		_m = 3; goto P999; /* 0 */
	case 155: // STATE 68 - migration.pml:260 - [op = 4] (0:0:1 - 1)
		IfNotBlocked
		reached[3][68] = 1;
		(trpt+1)->bup.oval = now.op;
		now.op = 4;
#ifdef VAR_RANGES
		logval("op", now.op);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 156: // STATE 69 - migration.pml:260 - [answer = 3] (0:0:1 - 1)
		IfNotBlocked
		reached[3][69] = 1;
		(trpt+1)->bup.oval = now.answer;
		now.answer = 3;
#ifdef VAR_RANGES
		logval("answer", now.answer);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 157: // STATE 72 - migration.pml:261 - [((!(server)&&(answer==3)))] (0:0:0 - 1)
		IfNotBlocked
		reached[3][72] = 1;
		if (!(( !(((int)now.server))&&(now.answer==3))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 158: // STATE 73 - migration.pml:261 - [op = 4] (0:0:1 - 1)
		IfNotBlocked
		reached[3][73] = 1;
		(trpt+1)->bup.oval = now.op;
		now.op = 4;
#ifdef VAR_RANGES
		logval("op", now.op);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 159: // STATE 78 - migration.pml:266 - [((dump&&!(sigint)))] (0:0:0 - 1)
		IfNotBlocked
		reached[3][78] = 1;
		if (!((((int)now.dump)&& !(((int)now.sigint)))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 160: // STATE 79 - migration.pml:267 - [(((!(dump)||(!(agent)||!(link_up)))||sigint))] (0:0:0 - 1)
		IfNotBlocked
		reached[3][79] = 1;
		if (!((( !(((int)now.dump))||( !(((int)now.agent))|| !(((int)now.link_up))))||((int)now.sigint))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 161: // STATE 83 - migration.pml:271 - [went = 1] (0:0:1 - 2)
		IfNotBlocked
		reached[3][83] = 1;
		(trpt+1)->bup.oval = ((int)now.went);
		now.went = 1;
#ifdef VAR_RANGES
		logval("went", ((int)now.went));
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 162: // STATE 84 - migration.pml:273 - [(restored_said)] (0:0:0 - 1)
		IfNotBlocked
		reached[3][84] = 1;
		if (!(((int)now.restored_said)))
			continue;
		_m = 3; goto P999; /* 0 */
	case 163: // STATE 85 - migration.pml:192 - [journal = 6] (0:0:1 - 1)
		IfNotBlocked
		reached[3][85] = 1;
		(trpt+1)->bup.oval = now.journal;
		now.journal = 6;
#ifdef VAR_RANGES
		logval("journal", now.journal);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 164: // STATE 86 - migration.pml:194 - [disk = 6] (0:0:1 - 1)
		IfNotBlocked
		reached[3][86] = 1;
		(trpt+1)->bup.oval = now.disk;
		now.disk = 6;
#ifdef VAR_RANGES
		logval("disk", now.disk);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 165: // STATE 92 - migration.pml:274 - [(failed_said)] (0:0:0 - 1)
		IfNotBlocked
		reached[3][92] = 1;
		if (!(((int)now.failed_said)))
			continue;
		_m = 3; goto P999; /* 0 */
	case 166: // STATE 94 - migration.pml:275 - [(((((may_run_said||(!(agent)||!(link_up)))||!(dump))||sigint)||(daemon_end>3)))] (0:0:0 - 1)
		IfNotBlocked
		reached[3][94] = 1;
		if (!(((((((int)now.may_run_said)||( !(((int)now.agent))|| !(((int)now.link_up))))|| !(((int)now.dump)))||((int)now.sigint))||(now.daemon_end>3))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 167: // STATE 98 - migration.pml:279 - [(drained)] (0:0:0 - 1)
		IfNotBlocked
		reached[3][98] = 1;
		if (!(((int)now.drained)))
			continue;
		_m = 3; goto P999; /* 0 */
	case 168: // STATE 99 - migration.pml:280 - [((((!(dump)||sigint)||(daemon_end==2))||(daemon_end==1)))] (0:0:0 - 1)
		IfNotBlocked
		reached[3][99] = 1;
		if (!(((( !(((int)now.dump))||((int)now.sigint))||(now.daemon_end==2))||(now.daemon_end==1))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 169: // STATE 103 - migration.pml:192 - [journal = 5] (0:0:1 - 1)
		IfNotBlocked
		reached[3][103] = 1;
		(trpt+1)->bup.oval = now.journal;
		now.journal = 5;
#ifdef VAR_RANGES
		logval("journal", now.journal);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 170: // STATE 104 - migration.pml:194 - [disk = 5] (0:0:1 - 1)
		IfNotBlocked
		reached[3][104] = 1;
		(trpt+1)->bup.oval = now.disk;
		now.disk = 5;
#ifdef VAR_RANGES
		logval("disk", now.disk);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 171: // STATE 110 - migration.pml:285 - [(disk_full)] (0:0:0 - 1)
		IfNotBlocked
		reached[3][110] = 1;
		if (!(((int)now.disk_full)))
			continue;
		_m = 3; goto P999; /* 0 */
	case 172: // STATE 112 - migration.pml:286 - [(!(disk_full))] (0:0:0 - 1)
		IfNotBlocked
		reached[3][112] = 1;
		if (!( !(((int)now.disk_full))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 173: // STATE 113 - migration.pml:286 - [committing = 1] (0:0:1 - 1)
		IfNotBlocked
		reached[3][113] = 1;
		(trpt+1)->bup.oval = ((int)now.committing);
		now.committing = 1;
#ifdef VAR_RANGES
		logval("committing", ((int)now.committing));
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 174: // STATE 114 - migration.pml:185 - [journal = 4] (0:0:1 - 1)
		IfNotBlocked
		reached[3][114] = 1;
		(trpt+1)->bup.oval = now.journal;
		now.journal = 4;
#ifdef VAR_RANGES
		logval("journal", now.journal);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 175: // STATE 115 - migration.pml:185 - [disk = 4] (0:0:1 - 1)
		IfNotBlocked
		reached[3][115] = 1;
		(trpt+1)->bup.oval = now.disk;
		now.disk = 4;
#ifdef VAR_RANGES
		logval("disk", now.disk);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 176: // STATE 121 - migration.pml:202 - [((server&&(op==4)))] (0:0:0 - 1)
		IfNotBlocked
		reached[3][121] = 1;
		if (!((((int)now.server)&&(now.op==4))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 177: // STATE 122 - migration.pml:202 - [op = 2] (0:0:1 - 1)
		IfNotBlocked
		reached[3][122] = 1;
		(trpt+1)->bup.oval = now.op;
		now.op = 2;
#ifdef VAR_RANGES
		logval("op", now.op);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 178: // STATE 123 - migration.pml:202 - [answer = 3] (0:0:1 - 1)
		IfNotBlocked
		reached[3][123] = 1;
		(trpt+1)->bup.oval = now.answer;
		now.answer = 3;
#ifdef VAR_RANGES
		logval("answer", now.answer);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 179: // STATE 127 - migration.pml:291 - [((!(dump)||sigint))] (0:0:0 - 1)
		IfNotBlocked
		reached[3][127] = 1;
		if (!(( !(((int)now.dump))||((int)now.sigint))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 180: // STATE 132 - migration.pml:294 - [((answer==2))] (0:0:0 - 1)
		IfNotBlocked
		reached[3][132] = 1;
		if (!((now.answer==2)))
			continue;
		_m = 3; goto P999; /* 0 */
	case 181: // STATE 133 - migration.pml:294 - [op = 4] (0:0:1 - 1)
		IfNotBlocked
		reached[3][133] = 1;
		(trpt+1)->bup.oval = now.op;
		now.op = 4;
#ifdef VAR_RANGES
		logval("op", now.op);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 182: // STATE 134 - migration.pml:294 - [answer = 3] (0:0:1 - 1)
		IfNotBlocked
		reached[3][134] = 1;
		(trpt+1)->bup.oval = now.answer;
		now.answer = 3;
#ifdef VAR_RANGES
		logval("answer", now.answer);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 183: // STATE 137 - migration.pml:295 - [((answer==1))] (0:0:0 - 1)
		IfNotBlocked
		reached[3][137] = 1;
		if (!((now.answer==1)))
			continue;
		_m = 3; goto P999; /* 0 */
	case 184: // STATE 138 - migration.pml:295 - [op = 4] (0:0:1 - 1)
		IfNotBlocked
		reached[3][138] = 1;
		(trpt+1)->bup.oval = now.op;
		now.op = 4;
#ifdef VAR_RANGES
		logval("op", now.op);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 185: // STATE 139 - migration.pml:295 - [answer = 3] (0:0:1 - 1)
		IfNotBlocked
		reached[3][139] = 1;
		(trpt+1)->bup.oval = now.answer;
		now.answer = 3;
#ifdef VAR_RANGES
		logval("answer", now.answer);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 186: // STATE 142 - migration.pml:296 - [((!(dump)&&!(server)))] (0:0:0 - 1)
		IfNotBlocked
		reached[3][142] = 1;
		if (!(( !(((int)now.dump))&& !(((int)now.server)))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 187: // STATE 143 - migration.pml:296 - [op = 4] (0:0:1 - 1)
		IfNotBlocked
		reached[3][143] = 1;
		(trpt+1)->bup.oval = now.op;
		now.op = 4;
#ifdef VAR_RANGES
		logval("op", now.op);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 188: // STATE 144 - migration.pml:296 - [answer = 3] (0:0:1 - 1)
		IfNotBlocked
		reached[3][144] = 1;
		(trpt+1)->bup.oval = now.answer;
		now.answer = 3;
#ifdef VAR_RANGES
		logval("answer", now.answer);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 189: // STATE 147 - migration.pml:297 - [((sigint&&dump))] (0:0:0 - 1)
		IfNotBlocked
		reached[3][147] = 1;
		if (!((((int)now.sigint)&&((int)now.dump))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 190: // STATE 152 - migration.pml:303 - [((source==1))] (0:0:0 - 1)
		IfNotBlocked
		reached[3][152] = 1;
		if (!((now.source==1)))
			continue;
		_m = 3; goto P999; /* 0 */
	case 191: // STATE 154 - migration.pml:304 - [((source!=1))] (0:0:0 - 1)
		IfNotBlocked
		reached[3][154] = 1;
		if (!((now.source!=1)))
			continue;
		_m = 3; goto P999; /* 0 */
	case 192: // STATE 158 - migration.pml:307 - [said = 3] (0:0:1 - 1)
		IfNotBlocked
		reached[3][158] = 1;
		(trpt+1)->bup.oval = now.said;
		now.said = 3;
#ifdef VAR_RANGES
		logval("said", now.said);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 193: // STATE 159 - migration.pml:185 - [journal = 3] (0:0:1 - 1)
		IfNotBlocked
		reached[3][159] = 1;
		(trpt+1)->bup.oval = now.journal;
		now.journal = 3;
#ifdef VAR_RANGES
		logval("journal", now.journal);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 194: // STATE 160 - migration.pml:185 - [disk = 3] (0:0:1 - 1)
		IfNotBlocked
		reached[3][160] = 1;
		(trpt+1)->bup.oval = now.disk;
		now.disk = 3;
#ifdef VAR_RANGES
		logval("disk", now.disk);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 195: // STATE 163 - migration.pml:307 - [driver = 0] (0:0:1 - 1)
		IfNotBlocked
		reached[3][163] = 1;
		(trpt+1)->bup.oval = ((int)now.driver);
		now.driver = 0;
#ifdef VAR_RANGES
		logval("driver", ((int)now.driver));
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 196: // STATE 165 - migration.pml:309 - [lifeline = 0] (0:0:1 - 17)
		IfNotBlocked
		reached[3][165] = 1;
		(trpt+1)->bup.oval = ((int)now.lifeline);
		now.lifeline = 0;
#ifdef VAR_RANGES
		logval("lifeline", ((int)now.lifeline));
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 197: // STATE 166 - migration.pml:310 - [op = 4] (0:0:1 - 1)
		IfNotBlocked
		reached[3][166] = 1;
		(trpt+1)->bup.oval = now.op;
		now.op = 4;
#ifdef VAR_RANGES
		logval("op", now.op);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 198: // STATE 167 - migration.pml:312 - [(((((phase!=3)||fenced)&&server)&&(op==4)))] (0:0:0 - 1)
		IfNotBlocked
		reached[3][167] = 1;
		if (!(((((now.phase!=3)||((int)now.fenced))&&((int)now.server))&&(now.op==4))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 199: // STATE 168 - migration.pml:313 - [op = 1] (0:0:1 - 1)
		IfNotBlocked
		reached[3][168] = 1;
		(trpt+1)->bup.oval = now.op;
		now.op = 1;
#ifdef VAR_RANGES
		logval("op", now.op);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 200: // STATE 169 - migration.pml:313 - [answer = 3] (0:0:1 - 1)
		IfNotBlocked
		reached[3][169] = 1;
		(trpt+1)->bup.oval = now.answer;
		now.answer = 3;
#ifdef VAR_RANGES
		logval("answer", now.answer);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 201: // STATE 171 - migration.pml:314 - [(((op==1)&&((answer!=3)||!(server))))] (0:0:0 - 1)
		IfNotBlocked
		reached[3][171] = 1;
		if (!(((now.op==1)&&((now.answer!=3)|| !(((int)now.server))))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 202: // STATE 172 - migration.pml:314 - [op = 4] (0:0:1 - 1)
		IfNotBlocked
		reached[3][172] = 1;
		(trpt+1)->bup.oval = now.op;
		now.op = 4;
#ifdef VAR_RANGES
		logval("op", now.op);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 203: // STATE 173 - migration.pml:314 - [answer = 3] (0:0:1 - 1)
		IfNotBlocked
		reached[3][173] = 1;
		(trpt+1)->bup.oval = now.answer;
		now.answer = 3;
#ifdef VAR_RANGES
		logval("answer", now.answer);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 204: // STATE 175 - migration.pml:315 - [((!(dump)&&(source!=3)))] (0:0:0 - 1)
		IfNotBlocked
		reached[3][175] = 1;
		if (!(( !(((int)now.dump))&&(now.source!=3))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 205: // STATE 176 - migration.pml:315 - [op = 4] (0:0:1 - 1)
		IfNotBlocked
		reached[3][176] = 1;
		(trpt+1)->bup.oval = now.op;
		now.op = 4;
#ifdef VAR_RANGES
		logval("op", now.op);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 206: // STATE 177 - migration.pml:96 - [fenced = 0] (0:0:1 - 1)
		IfNotBlocked
		reached[3][177] = 1;
		(trpt+1)->bup.oval = ((int)now.fenced);
		now.fenced = 0;
#ifdef VAR_RANGES
		logval("fenced", ((int)now.fenced));
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 207: // STATE 178 - migration.pml:98 - [((source==2))] (0:0:0 - 1)
		IfNotBlocked
		reached[3][178] = 1;
		if (!((now.source==2)))
			continue;
		_m = 3; goto P999; /* 0 */
	case 208: // STATE 179 - migration.pml:98 - [source = 4] (0:0:1 - 1)
		IfNotBlocked
		reached[3][179] = 1;
		(trpt+1)->bup.oval = now.source;
		now.source = 4;
#ifdef VAR_RANGES
		logval("source", now.source);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 209: // STATE 189 - migration.pml:317 - [said = 2] (0:0:1 - 1)
		IfNotBlocked
		reached[3][189] = 1;
		(trpt+1)->bup.oval = now.said;
		now.said = 2;
#ifdef VAR_RANGES
		logval("said", now.said);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 210: // STATE 190 - migration.pml:185 - [journal = 2] (0:0:1 - 1)
		IfNotBlocked
		reached[3][190] = 1;
		(trpt+1)->bup.oval = now.journal;
		now.journal = 2;
#ifdef VAR_RANGES
		logval("journal", now.journal);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 211: // STATE 191 - migration.pml:185 - [disk = 2] (0:0:1 - 1)
		IfNotBlocked
		reached[3][191] = 1;
		(trpt+1)->bup.oval = now.disk;
		now.disk = 2;
#ifdef VAR_RANGES
		logval("disk", now.disk);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 212: // STATE 194 - migration.pml:317 - [driver = 0] (0:0:1 - 1)
		IfNotBlocked
		reached[3][194] = 1;
		(trpt+1)->bup.oval = ((int)now.driver);
		now.driver = 0;
#ifdef VAR_RANGES
		logval("driver", ((int)now.driver));
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 213: // STATE 196 - migration.pml:319 - [said = 1] (0:0:1 - 1)
		IfNotBlocked
		reached[3][196] = 1;
		(trpt+1)->bup.oval = now.said;
		now.said = 1;
#ifdef VAR_RANGES
		logval("said", now.said);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 214: // STATE 197 - migration.pml:192 - [journal = 1] (0:0:1 - 1)
		IfNotBlocked
		reached[3][197] = 1;
		(trpt+1)->bup.oval = now.journal;
		now.journal = 1;
#ifdef VAR_RANGES
		logval("journal", now.journal);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 215: // STATE 198 - migration.pml:194 - [disk = 1] (0:0:1 - 1)
		IfNotBlocked
		reached[3][198] = 1;
		(trpt+1)->bup.oval = now.disk;
		now.disk = 1;
#ifdef VAR_RANGES
		logval("disk", now.disk);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 216: // STATE 204 - migration.pml:319 - [lifeline = 0] (0:0:1 - 3)
		IfNotBlocked
		reached[3][204] = 1;
		(trpt+1)->bup.oval = ((int)now.lifeline);
		now.lifeline = 0;
#ifdef VAR_RANGES
		logval("lifeline", ((int)now.lifeline));
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 217: // STATE 205 - migration.pml:319 - [driver = 0] (0:0:1 - 1)
		IfNotBlocked
		reached[3][205] = 1;
		(trpt+1)->bup.oval = ((int)now.driver);
		now.driver = 0;
#ifdef VAR_RANGES
		logval("driver", ((int)now.driver));
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 218: // STATE 210 - migration.pml:322 - [lifeline = 0] (0:0:1 - 1)
		IfNotBlocked
		reached[3][210] = 1;
		(trpt+1)->bup.oval = ((int)now.lifeline);
		now.lifeline = 0;
#ifdef VAR_RANGES
		logval("lifeline", ((int)now.lifeline));
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 219: // STATE 211 - migration.pml:324 - [((op!=4))] (0:0:0 - 1)
		IfNotBlocked
		reached[3][211] = 1;
		if (!((now.op!=4)))
			continue;
		_m = 3; goto P999; /* 0 */
	case 220: // STATE 212 - migration.pml:324 - [((!(server)||(answer!=3)))] (219:0:2 - 1)
		IfNotBlocked
		reached[3][212] = 1;
		if (!(( !(((int)now.server))||(now.answer!=3))))
			continue;
		/* merge: op = 4(219, 213, 219) */
		reached[3][213] = 1;
		(trpt+1)->bup.ovals = grab_ints(2);
		(trpt+1)->bup.ovals[0] = now.op;
		now.op = 4;
#ifdef VAR_RANGES
		logval("op", now.op);
#endif
		;
		/* merge: answer = 3(219, 214, 219) */
		reached[3][214] = 1;
		(trpt+1)->bup.ovals[1] = now.answer;
		now.answer = 3;
#ifdef VAR_RANGES
		logval("answer", now.answer);
#endif
		;
		/* merge: .(goto)(219, 217, 219) */
		reached[3][217] = 1;
		;
		_m = 3; goto P999; /* 3 */
	case 221: // STATE 217 - migration.pml:326 - [.(goto)] (0:219:0 - 2)
		IfNotBlocked
		reached[3][217] = 1;
		;
		_m = 3; goto P999; /* 0 */
	case 222: // STATE 219 - migration.pml:327 - [-end-] (0:0:0 - 1)
		IfNotBlocked
		reached[3][219] = 1;
		if (!delproc(1, II)) continue;
		_m = 3; goto P999; /* 0 */

		 /* PROC Guardian */
	case 223: // STATE 1 - migration.pml:169 - [(((guardian&&!(server))&&dump))] (0:0:0 - 1)
		IfNotBlocked
		reached[2][1] = 1;
		if (!(((((int)now.guardian)&& !(((int)now.server)))&&((int)now.dump))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 224: // STATE 2 - migration.pml:171 - [(((phase==3)&&(wire==3)))] (0:0:0 - 1)
		IfNotBlocked
		reached[2][2] = 1;
		if (!(((now.phase==3)&&(now.wire==3))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 225: // STATE 14 - migration.pml:178 - [(((!(guardian)||server)||!(dump)))] (0:0:0 - 7)
		IfNotBlocked
		reached[2][14] = 1;
		if (!((( !(((int)now.guardian))||((int)now.server))|| !(((int)now.dump)))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 226: // STATE 3 - migration.pml:171 - [wire = 1] (0:0:1 - 1)
		IfNotBlocked
		reached[2][3] = 1;
		(trpt+1)->bup.oval = now.wire;
		now.wire = 1;
#ifdef VAR_RANGES
		logval("wire", now.wire);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 227: // STATE 4 - migration.pml:171 - [guardian = 0] (0:0:1 - 1)
		IfNotBlocked
		reached[2][4] = 1;
		(trpt+1)->bup.oval = ((int)now.guardian);
		now.guardian = 0;
#ifdef VAR_RANGES
		logval("guardian", ((int)now.guardian));
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 228: // STATE 6 - migration.pml:175 - [(((phase==2)||((phase==1)&&(wire==3))))] (0:0:0 - 1)
		IfNotBlocked
		reached[2][6] = 1;
		if (!(((now.phase==2)||((now.phase==1)&&(now.wire==3)))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 229: // STATE 7 - migration.pml:175 - [server = 1] (0:0:1 - 1)
		IfNotBlocked
		reached[2][7] = 1;
		(trpt+1)->bup.oval = ((int)now.server);
		now.server = 1;
#ifdef VAR_RANGES
		logval("server", ((int)now.server));
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 230: // STATE 9 - migration.pml:177 - [((wire!=3))] (0:0:0 - 1)
		IfNotBlocked
		reached[2][9] = 1;
		if (!((now.wire!=3)))
			continue;
		_m = 3; goto P999; /* 0 */
	case 231: // STATE 10 - migration.pml:177 - [guardian = 0] (0:0:1 - 1)
		IfNotBlocked
		reached[2][10] = 1;
		(trpt+1)->bup.oval = ((int)now.guardian);
		now.guardian = 0;
#ifdef VAR_RANGES
		logval("guardian", ((int)now.guardian));
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 232: // STATE 17 - migration.pml:179 - [(((guardian&&!(dump))&&(journal!=11)))] (20:0:1 - 1)
		IfNotBlocked
		reached[2][17] = 1;
		if (!(((((int)now.guardian)&& !(((int)now.dump)))&&(now.journal!=11))))
			continue;
		/* merge: guardian = 0(0, 18, 20) */
		reached[2][18] = 1;
		(trpt+1)->bup.oval = ((int)now.guardian);
		now.guardian = 0;
#ifdef VAR_RANGES
		logval("guardian", ((int)now.guardian));
#endif
		;
		/* merge: .(goto)(0, 21, 20) */
		reached[2][21] = 1;
		;
		_m = 3; goto P999; /* 2 */
	case 233: // STATE 23 - migration.pml:181 - [-end-] (0:0:0 - 1)
		IfNotBlocked
		reached[2][23] = 1;
		if (!delproc(1, II)) continue;
		_m = 3; goto P999; /* 0 */

		 /* PROC Page_server */
	case 234: // STATE 1 - migration.pml:129 - [(server)] (0:0:0 - 1)
		IfNotBlocked
		reached[1][1] = 1;
		if (!(((int)now.server)))
			continue;
		_m = 3; goto P999; /* 0 */
	case 235: // STATE 2 - migration.pml:131 - [(((op==3)&&(answer==3)))] (0:0:0 - 1)
		IfNotBlocked
		reached[1][2] = 1;
		if (!(((now.op==3)&&(now.answer==3))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 236: // STATE 58 - migration.pml:162 - [(!(server))] (0:0:0 - 38)
		IfNotBlocked
		reached[1][58] = 1;
		if (!( !(((int)now.server))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 237: // STATE 3 - migration.pml:132 - [phase = 2] (0:0:1 - 1)
		IfNotBlocked
		reached[1][3] = 1;
		(trpt+1)->bup.oval = now.phase;
		now.phase = 2;
#ifdef VAR_RANGES
		logval("phase", now.phase);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 238: // STATE 4 - migration.pml:134 - [fenced = 1] (0:0:1 - 1)
		IfNotBlocked
		reached[1][4] = 1;
		(trpt+1)->bup.oval = ((int)now.fenced);
		now.fenced = 1;
#ifdef VAR_RANGES
		logval("fenced", ((int)now.fenced));
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 239: // STATE 5 - migration.pml:137 - [((dump&&(source==3)))] (0:0:0 - 1)
		IfNotBlocked
		reached[1][5] = 1;
		if (!((((int)now.dump)&&(now.source==3))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 240: // STATE 6 - migration.pml:137 - [answer = 2] (0:0:1 - 1)
		IfNotBlocked
		reached[1][6] = 1;
		(trpt+1)->bup.oval = now.answer;
		now.answer = 2;
#ifdef VAR_RANGES
		logval("answer", now.answer);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 241: // STATE 8 - migration.pml:138 - [((!(dump)||(source!=3)))] (0:0:0 - 1)
		IfNotBlocked
		reached[1][8] = 1;
		if (!(( !(((int)now.dump))||(now.source!=3))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 242: // STATE 9 - migration.pml:96 - [fenced = 0] (0:0:1 - 1)
		IfNotBlocked
		reached[1][9] = 1;
		(trpt+1)->bup.oval = ((int)now.fenced);
		now.fenced = 0;
#ifdef VAR_RANGES
		logval("fenced", ((int)now.fenced));
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 243: // STATE 10 - migration.pml:98 - [((source==2))] (0:0:0 - 1)
		IfNotBlocked
		reached[1][10] = 1;
		if (!((now.source==2)))
			continue;
		_m = 3; goto P999; /* 0 */
	case 244: // STATE 11 - migration.pml:98 - [source = 4] (0:0:1 - 1)
		IfNotBlocked
		reached[1][11] = 1;
		(trpt+1)->bup.oval = now.source;
		now.source = 4;
#ifdef VAR_RANGES
		logval("source", now.source);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 245: // STATE 16 - migration.pml:139 - [phase = 3] (0:0:1 - 3)
		IfNotBlocked
		reached[1][16] = 1;
		(trpt+1)->bup.oval = now.phase;
		now.phase = 3;
#ifdef VAR_RANGES
		logval("phase", now.phase);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 246: // STATE 17 - migration.pml:139 - [answer = 1] (0:0:1 - 1)
		IfNotBlocked
		reached[1][17] = 1;
		(trpt+1)->bup.oval = now.answer;
		now.answer = 1;
#ifdef VAR_RANGES
		logval("answer", now.answer);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 247: // STATE 20 - migration.pml:141 - [(((op==2)&&(answer==3)))] (0:0:0 - 1)
		IfNotBlocked
		reached[1][20] = 1;
		if (!(((now.op==2)&&(now.answer==3))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 248: // STATE 21 - migration.pml:143 - [(!(drained))] (0:0:0 - 1)
		IfNotBlocked
		reached[1][21] = 1;
		if (!( !(((int)now.drained))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 249: // STATE 22 - migration.pml:143 - [answer = 1] (0:0:1 - 1)
		IfNotBlocked
		reached[1][22] = 1;
		(trpt+1)->bup.oval = now.answer;
		now.answer = 1;
#ifdef VAR_RANGES
		logval("answer", now.answer);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 250: // STATE 23 - migration.pml:144 - [(drained)] (0:0:0 - 1)
		IfNotBlocked
		reached[1][23] = 1;
		if (!(((int)now.drained)))
			continue;
		_m = 3; goto P999; /* 0 */
	case 251: // STATE 24 - migration.pml:145 - [phase = 1] (0:0:1 - 1)
		IfNotBlocked
		reached[1][24] = 1;
		(trpt+1)->bup.oval = now.phase;
		now.phase = 1;
#ifdef VAR_RANGES
		logval("phase", now.phase);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 252: // STATE 25 - migration.pml:146 - [wire = 2] (0:0:1 - 1)
		IfNotBlocked
		reached[1][25] = 1;
		(trpt+1)->bup.oval = now.wire;
		now.wire = 2;
#ifdef VAR_RANGES
		logval("wire", now.wire);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 253: // STATE 26 - migration.pml:147 - [(!(dump))] (0:0:0 - 1)
		IfNotBlocked
		reached[1][26] = 1;
		if (!( !(((int)now.dump))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 254: // STATE 27 - migration.pml:147 - [answer = 2] (0:0:1 - 1)
		IfNotBlocked
		reached[1][27] = 1;
		(trpt+1)->bup.oval = now.answer;
		now.answer = 2;
#ifdef VAR_RANGES
		logval("answer", now.answer);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 255: // STATE 30 - migration.pml:149 - [(((op==1)&&(answer==3)))] (0:0:0 - 1)
		IfNotBlocked
		reached[1][30] = 1;
		if (!(((now.op==1)&&(now.answer==3))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 256: // STATE 31 - migration.pml:96 - [fenced = 0] (0:0:1 - 1)
		IfNotBlocked
		reached[1][31] = 1;
		(trpt+1)->bup.oval = ((int)now.fenced);
		now.fenced = 0;
#ifdef VAR_RANGES
		logval("fenced", ((int)now.fenced));
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 257: // STATE 32 - migration.pml:98 - [((source==2))] (0:0:0 - 1)
		IfNotBlocked
		reached[1][32] = 1;
		if (!((now.source==2)))
			continue;
		_m = 3; goto P999; /* 0 */
	case 258: // STATE 33 - migration.pml:98 - [source = 4] (0:0:1 - 1)
		IfNotBlocked
		reached[1][33] = 1;
		(trpt+1)->bup.oval = now.source;
		now.source = 4;
#ifdef VAR_RANGES
		logval("source", now.source);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 259: // STATE 38 - migration.pml:150 - [phase = 3] (0:0:1 - 3)
		IfNotBlocked
		reached[1][38] = 1;
		(trpt+1)->bup.oval = now.phase;
		now.phase = 3;
#ifdef VAR_RANGES
		logval("phase", now.phase);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 260: // STATE 39 - migration.pml:152 - [((wire==3))] (0:0:0 - 1)
		IfNotBlocked
		reached[1][39] = 1;
		if (!((now.wire==3)))
			continue;
		_m = 3; goto P999; /* 0 */
	case 261: // STATE 40 - migration.pml:152 - [wire = 1] (0:0:1 - 1)
		IfNotBlocked
		reached[1][40] = 1;
		(trpt+1)->bup.oval = now.wire;
		now.wire = 1;
#ifdef VAR_RANGES
		logval("wire", now.wire);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 262: // STATE 44 - migration.pml:155 - [(!(dump))] (0:0:0 - 3)
		IfNotBlocked
		reached[1][44] = 1;
		if (!( !(((int)now.dump))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 263: // STATE 45 - migration.pml:155 - [answer = 2] (0:0:1 - 1)
		IfNotBlocked
		reached[1][45] = 1;
		(trpt+1)->bup.oval = now.answer;
		now.answer = 2;
#ifdef VAR_RANGES
		logval("answer", now.answer);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 264: // STATE 46 - migration.pml:156 - [((((!(lifeline)&&(phase==3))&&dump)&&(wire==3)))] (0:0:0 - 1)
		IfNotBlocked
		reached[1][46] = 1;
		if (!(((( !(((int)now.lifeline))&&(now.phase==3))&&((int)now.dump))&&(now.wire==3))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 265: // STATE 47 - migration.pml:158 - [((phase==3))] (0:0:0 - 1)
		IfNotBlocked
		reached[1][47] = 1;
		if (!((now.phase==3)))
			continue;
		_m = 3; goto P999; /* 0 */
	case 266: // STATE 48 - migration.pml:158 - [wire = 1] (0:0:1 - 1)
		IfNotBlocked
		reached[1][48] = 1;
		(trpt+1)->bup.oval = now.wire;
		now.wire = 1;
#ifdef VAR_RANGES
		logval("wire", now.wire);
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 267: // STATE 53 - migration.pml:161 - [((((!(dump)&&(journal!=11))&&(journal!=10))&&(op==4)))] (0:0:0 - 1)
		IfNotBlocked
		reached[1][53] = 1;
		if (!(((( !(((int)now.dump))&&(now.journal!=11))&&(now.journal!=10))&&(now.op==4))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 268: // STATE 54 - migration.pml:161 - [server = 0] (0:0:1 - 1)
		IfNotBlocked
		reached[1][54] = 1;
		(trpt+1)->bup.oval = ((int)now.server);
		now.server = 0;
#ifdef VAR_RANGES
		logval("server", ((int)now.server));
#endif
		;
		_m = 3; goto P999; /* 0 */
	case 269: // STATE 64 - migration.pml:164 - [-end-] (0:0:0 - 1)
		IfNotBlocked
		reached[1][64] = 1;
		if (!delproc(1, II)) continue;
		_m = 3; goto P999; /* 0 */

		 /* PROC Dump */
	case 270: // STATE 1 - migration.pml:108 - [((dump&&(wire==2)))] (48:0:2 - 1)
		IfNotBlocked
		reached[0][1] = 1;
		if (!((((int)now.dump)&&(now.wire==2))))
			continue;
		/* merge: dump = 0(48, 2, 48) */
		reached[0][2] = 1;
		(trpt+1)->bup.ovals = grab_ints(2);
		(trpt+1)->bup.ovals[0] = ((int)now.dump);
		now.dump = 0;
#ifdef VAR_RANGES
		logval("dump", ((int)now.dump));
#endif
		;
		/* merge: source = 1(48, 3, 48) */
		reached[0][3] = 1;
		(trpt+1)->bup.ovals[1] = now.source;
		now.source = 1;
#ifdef VAR_RANGES
		logval("source", now.source);
#endif
		;
		/* merge: .(goto)(0, 49, 48) */
		reached[0][49] = 1;
		;
		_m = 3; goto P999; /* 3 */
	case 271: // STATE 5 - migration.pml:110 - [((dump&&(wire==2)))] (14:0:1 - 1)
		IfNotBlocked
		reached[0][5] = 1;
		if (!((((int)now.dump)&&(now.wire==2))))
			continue;
		/* merge: dump = 0(0, 6, 14) */
		reached[0][6] = 1;
		(trpt+1)->bup.oval = ((int)now.dump);
		now.dump = 0;
#ifdef VAR_RANGES
		logval("dump", ((int)now.dump));
#endif
		;
		_m = 3; goto P999; /* 1 */
	case 272: // STATE 7 - migration.pml:87 - [(((source==3)&&fenced))] (48:0:1 - 1)
		IfNotBlocked
		reached[0][7] = 1;
		if (!(((now.source==3)&&((int)now.fenced))))
			continue;
		/* merge: source = 2(48, 8, 48) */
		reached[0][8] = 1;
		(trpt+1)->bup.oval = now.source;
		now.source = 2;
#ifdef VAR_RANGES
		logval("source", now.source);
#endif
		;
		/* merge: .(goto)(48, 13, 48) */
		reached[0][13] = 1;
		;
		/* merge: .(goto)(0, 49, 48) */
		reached[0][49] = 1;
		;
		_m = 3; goto P999; /* 3 */
	case 273: // STATE 13 - migration.pml:91 - [.(goto)] (0:48:0 - 3)
		IfNotBlocked
		reached[0][13] = 1;
		;
		/* merge: .(goto)(0, 49, 48) */
		reached[0][49] = 1;
		;
		_m = 3; goto P999; /* 1 */
	case 274: // STATE 9 - migration.pml:88 - [(((source==3)&&!(fenced)))] (48:0:1 - 1)
		IfNotBlocked
		reached[0][9] = 1;
		if (!(((now.source==3)&& !(((int)now.fenced)))))
			continue;
		/* merge: source = 4(48, 10, 48) */
		reached[0][10] = 1;
		(trpt+1)->bup.oval = now.source;
		now.source = 4;
#ifdef VAR_RANGES
		logval("source", now.source);
#endif
		;
		/* merge: .(goto)(48, 13, 48) */
		reached[0][13] = 1;
		;
		/* merge: .(goto)(0, 49, 48) */
		reached[0][49] = 1;
		;
		_m = 3; goto P999; /* 3 */
	case 275: // STATE 16 - migration.pml:112 - [((dump&&(wire==1)))] (25:0:1 - 1)
		IfNotBlocked
		reached[0][16] = 1;
		if (!((((int)now.dump)&&(now.wire==1))))
			continue;
		/* merge: dump = 0(0, 17, 25) */
		reached[0][17] = 1;
		(trpt+1)->bup.oval = ((int)now.dump);
		now.dump = 0;
#ifdef VAR_RANGES
		logval("dump", ((int)now.dump));
#endif
		;
		_m = 3; goto P999; /* 1 */
	case 276: // STATE 18 - migration.pml:87 - [(((source==3)&&fenced))] (48:0:1 - 1)
		IfNotBlocked
		reached[0][18] = 1;
		if (!(((now.source==3)&&((int)now.fenced))))
			continue;
		/* merge: source = 2(48, 19, 48) */
		reached[0][19] = 1;
		(trpt+1)->bup.oval = now.source;
		now.source = 2;
#ifdef VAR_RANGES
		logval("source", now.source);
#endif
		;
		/* merge: .(goto)(48, 24, 48) */
		reached[0][24] = 1;
		;
		/* merge: .(goto)(0, 49, 48) */
		reached[0][49] = 1;
		;
		_m = 3; goto P999; /* 3 */
	case 277: // STATE 24 - migration.pml:91 - [.(goto)] (0:48:0 - 3)
		IfNotBlocked
		reached[0][24] = 1;
		;
		/* merge: .(goto)(0, 49, 48) */
		reached[0][49] = 1;
		;
		_m = 3; goto P999; /* 1 */
	case 278: // STATE 20 - migration.pml:88 - [(((source==3)&&!(fenced)))] (48:0:1 - 1)
		IfNotBlocked
		reached[0][20] = 1;
		if (!(((now.source==3)&& !(((int)now.fenced)))))
			continue;
		/* merge: source = 4(48, 21, 48) */
		reached[0][21] = 1;
		(trpt+1)->bup.oval = now.source;
		now.source = 4;
#ifdef VAR_RANGES
		logval("source", now.source);
#endif
		;
		/* merge: .(goto)(48, 24, 48) */
		reached[0][24] = 1;
		;
		/* merge: .(goto)(0, 49, 48) */
		reached[0][49] = 1;
		;
		_m = 3; goto P999; /* 3 */
	case 279: // STATE 27 - migration.pml:114 - [((((dump&&(wire==3))&&!(server))&&!(guardian)))] (36:0:1 - 1)
		IfNotBlocked
		reached[0][27] = 1;
		if (!((((((int)now.dump)&&(now.wire==3))&& !(((int)now.server)))&& !(((int)now.guardian)))))
			continue;
		/* merge: dump = 0(0, 28, 36) */
		reached[0][28] = 1;
		(trpt+1)->bup.oval = ((int)now.dump);
		now.dump = 0;
#ifdef VAR_RANGES
		logval("dump", ((int)now.dump));
#endif
		;
		_m = 3; goto P999; /* 1 */
	case 280: // STATE 29 - migration.pml:87 - [(((source==3)&&fenced))] (48:0:1 - 1)
		IfNotBlocked
		reached[0][29] = 1;
		if (!(((now.source==3)&&((int)now.fenced))))
			continue;
		/* merge: source = 2(48, 30, 48) */
		reached[0][30] = 1;
		(trpt+1)->bup.oval = now.source;
		now.source = 2;
#ifdef VAR_RANGES
		logval("source", now.source);
#endif
		;
		/* merge: .(goto)(48, 35, 48) */
		reached[0][35] = 1;
		;
		/* merge: .(goto)(0, 49, 48) */
		reached[0][49] = 1;
		;
		_m = 3; goto P999; /* 3 */
	case 281: // STATE 35 - migration.pml:91 - [.(goto)] (0:48:0 - 3)
		IfNotBlocked
		reached[0][35] = 1;
		;
		/* merge: .(goto)(0, 49, 48) */
		reached[0][49] = 1;
		;
		_m = 3; goto P999; /* 1 */
	case 282: // STATE 31 - migration.pml:88 - [(((source==3)&&!(fenced)))] (48:0:1 - 1)
		IfNotBlocked
		reached[0][31] = 1;
		if (!(((now.source==3)&& !(((int)now.fenced)))))
			continue;
		/* merge: source = 4(48, 32, 48) */
		reached[0][32] = 1;
		(trpt+1)->bup.oval = now.source;
		now.source = 4;
#ifdef VAR_RANGES
		logval("source", now.source);
#endif
		;
		/* merge: .(goto)(48, 35, 48) */
		reached[0][35] = 1;
		;
		/* merge: .(goto)(0, 49, 48) */
		reached[0][49] = 1;
		;
		_m = 3; goto P999; /* 3 */
	case 283: // STATE 38 - migration.pml:122 - [((!(dump)&&(source==3)))] (0:0:0 - 1)
		IfNotBlocked
		reached[0][38] = 1;
		if (!(( !(((int)now.dump))&&(now.source==3))))
			continue;
		_m = 3; goto P999; /* 0 */
	case 284: // STATE 39 - migration.pml:87 - [(((source==3)&&fenced))] (48:0:1 - 1)
		IfNotBlocked
		reached[0][39] = 1;
		if (!(((now.source==3)&&((int)now.fenced))))
			continue;
		/* merge: source = 2(48, 40, 48) */
		reached[0][40] = 1;
		(trpt+1)->bup.oval = now.source;
		now.source = 2;
#ifdef VAR_RANGES
		logval("source", now.source);
#endif
		;
		/* merge: .(goto)(48, 45, 48) */
		reached[0][45] = 1;
		;
		/* merge: .(goto)(0, 49, 48) */
		reached[0][49] = 1;
		;
		_m = 3; goto P999; /* 3 */
	case 285: // STATE 45 - migration.pml:91 - [.(goto)] (0:48:0 - 3)
		IfNotBlocked
		reached[0][45] = 1;
		;
		/* merge: .(goto)(0, 49, 48) */
		reached[0][49] = 1;
		;
		_m = 3; goto P999; /* 1 */
	case 286: // STATE 41 - migration.pml:88 - [(((source==3)&&!(fenced)))] (48:0:1 - 1)
		IfNotBlocked
		reached[0][41] = 1;
		if (!(((now.source==3)&& !(((int)now.fenced)))))
			continue;
		/* merge: source = 4(48, 42, 48) */
		reached[0][42] = 1;
		(trpt+1)->bup.oval = now.source;
		now.source = 4;
#ifdef VAR_RANGES
		logval("source", now.source);
#endif
		;
		/* merge: .(goto)(48, 45, 48) */
		reached[0][45] = 1;
		;
		/* merge: .(goto)(0, 49, 48) */
		reached[0][49] = 1;
		;
		_m = 3; goto P999; /* 3 */
	case 287: // STATE 51 - migration.pml:124 - [-end-] (0:0:0 - 1)
		IfNotBlocked
		reached[0][51] = 1;
		if (!delproc(1, II)) continue;
		_m = 3; goto P999; /* 0 */
	case  _T5:	/* np_ */
		if (!((!(trpt->o_pm&4) && !(trpt->tau&128))))
			continue;
		/* else fall through */
	case  _T2:	/* true */
		_m = 3; goto P999;
#undef rand
	}

