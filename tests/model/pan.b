	switch (t->back) {
	default: Uerror("bad return move");
	case  0: goto R999; /* nothing to undo */

		 /* PROC Monitor */

	case 3: // STATE 2
		;
		now.two_run = trpt->bup.oval;
		;
		goto R999;

	case 4: // STATE 6
		;
		now.lost_by_us = trpt->bup.oval;
		;
		goto R999;

	case 5: // STATE 10
		;
		now.untrue_word = trpt->bup.oval;
		;
		goto R999;

	case 6: // STATE 14
		;
		now.untrue_status = trpt->bup.oval;
		;
		goto R999;

	case 7: // STATE 19
		;
		p_restor(II);
		;
		;
		goto R999;

		 /* PROC Operator */
;
		;
		
	case 9: // STATE 2
		;
		now.faults = trpt->bup.oval;
		;
		goto R999;

	case 10: // STATE 4
		;
		now.link_up = trpt->bup.oval;
		;
		goto R999;
;
		;
		
	case 12: // STATE 7
		;
		now.sigint = trpt->bup.oval;
		;
		goto R999;
;
		;
		;
		;
		
	case 15: // STATE 10
		;
		now.disk_full = trpt->bup.oval;
		;
		goto R999;
;
		
	case 16: // STATE 11
		goto R999;
;
		
	case 17: // STATE 25
		goto R999;

	case 18: // STATE 14
		;
		now.committing = trpt->bup.oval;
		;
		goto R999;

	case 19: // STATE 16
		;
		now.disk = trpt->bup.ovals[1];
		now.journal = trpt->bup.ovals[0];
		;
		ungrab_ints(trpt->bup.ovals, 2);
		goto R999;

	case 20: // STATE 21
		;
		now.daemon = trpt->bup.oval;
		;
		goto R999;

	case 21: // STATE 35
		;
		now.answer = trpt->bup.ovals[1];
		now.op = trpt->bup.ovals[0];
		;
		ungrab_ints(trpt->bup.ovals, 2);
		goto R999;
;
		;
		
	case 23: // STATE 39
		;
		now.op = trpt->bup.oval;
		;
		goto R999;

	case 24: // STATE 40
		;
		now.answer = trpt->bup.oval;
		;
		goto R999;
;
		;
		
	case 26: // STATE 43
		;
		now.disk = trpt->bup.ovals[1];
		now.journal = trpt->bup.ovals[0];
		;
		ungrab_ints(trpt->bup.ovals, 2);
		goto R999;

	case 27: // STATE 54
		;
		now.gate = trpt->bup.ovals[2];
		now.restore = trpt->bup.ovals[1];
		now.restored = trpt->bup.ovals[0];
		;
		ungrab_ints(trpt->bup.ovals, 3);
		goto R999;

	case 28: // STATE 58
		;
		now.answer = trpt->bup.ovals[1];
		now.op = trpt->bup.ovals[0];
		;
		ungrab_ints(trpt->bup.ovals, 2);
		goto R999;
;
		;
		
	case 30: // STATE 62
		;
		now.op = trpt->bup.oval;
		;
		goto R999;

	case 31: // STATE 63
		;
		now.answer = trpt->bup.oval;
		;
		goto R999;
;
		;
		
	case 33: // STATE 69
		;
		now.fenced = trpt->bup.oval;
		;
		goto R999;

	case 34: // STATE 71
		;
		now.source = trpt->bup.oval;
		;
		goto R999;

	case 35: // STATE 77
		;
		now.disk = trpt->bup.ovals[1];
		now.journal = trpt->bup.ovals[0];
		;
		ungrab_ints(trpt->bup.ovals, 2);
		goto R999;
;
		;
		
	case 37: // STATE 83
		;
		now.no_way_out = trpt->bup.oval;
		;
		goto R999;

	case 38: // STATE 86
		;
		p_restor(II);
		;
		;
		goto R999;

		 /* PROC Faults */

	case 39: // STATE 3
		;
		now.faults = trpt->bup.ovals[1];
		now.driver = trpt->bup.ovals[0];
		;
		ungrab_ints(trpt->bup.ovals, 2);
		goto R999;

	case 40: // STATE 7
		;
		now.faults = trpt->bup.ovals[1];
		now.server = trpt->bup.ovals[0];
		;
		ungrab_ints(trpt->bup.ovals, 2);
		goto R999;

	case 41: // STATE 11
		;
		now.faults = trpt->bup.ovals[1];
		now.guardian = trpt->bup.ovals[0];
		;
		ungrab_ints(trpt->bup.ovals, 2);
		goto R999;

	case 42: // STATE 15
		;
		now.faults = trpt->bup.ovals[1];
		now.dump = trpt->bup.ovals[0];
		;
		ungrab_ints(trpt->bup.ovals, 2);
		goto R999;

	case 43: // STATE 19
		;
		now.faults = trpt->bup.ovals[1];
		now.agent = trpt->bup.ovals[0];
		;
		ungrab_ints(trpt->bup.ovals, 2);
		goto R999;

	case 44: // STATE 23
		;
		now.faults = trpt->bup.ovals[1];
		now.keeper = trpt->bup.ovals[0];
		;
		ungrab_ints(trpt->bup.ovals, 2);
		goto R999;

	case 45: // STATE 27
		;
		now.faults = trpt->bup.ovals[1];
		now.daemon = trpt->bup.ovals[0];
		;
		ungrab_ints(trpt->bup.ovals, 2);
		goto R999;

	case 46: // STATE 31
		;
		now.faults = trpt->bup.ovals[1];
		now.holder = trpt->bup.ovals[0];
		;
		ungrab_ints(trpt->bup.ovals, 2);
		goto R999;

	case 47: // STATE 35
		;
		now.faults = trpt->bup.ovals[1];
		now.restore = trpt->bup.ovals[0];
		;
		ungrab_ints(trpt->bup.ovals, 2);
		goto R999;

	case 48: // STATE 37
		;
		now.restored = trpt->bup.oval;
		;
		goto R999;
;
		
	case 49: // STATE 42
		goto R999;

	case 50: // STATE 39
		;
		now.restored = trpt->bup.oval;
		;
		goto R999;

	case 51: // STATE 46
		;
		now.faults = trpt->bup.ovals[1];
		now.link_up = trpt->bup.ovals[0];
		;
		ungrab_ints(trpt->bup.ovals, 2);
		goto R999;

	case 52: // STATE 50
		;
		now.faults = trpt->bup.ovals[1];
		now.disk_full = trpt->bup.ovals[0];
		;
		ungrab_ints(trpt->bup.ovals, 2);
		goto R999;

	case 53: // STATE 54
		;
		now.faults = trpt->bup.ovals[1];
		now.restored = trpt->bup.ovals[0];
		;
		ungrab_ints(trpt->bup.ovals, 2);
		goto R999;

	case 54: // STATE 58
		;
		now.faults = trpt->bup.ovals[1];
		now.restored = trpt->bup.ovals[0];
		;
		ungrab_ints(trpt->bup.ovals, 2);
		goto R999;

	case 55: // STATE 63
		;
		now.faults = trpt->bup.ovals[2];
		now.source_killed = trpt->bup.ovals[1];
		now.source = trpt->bup.ovals[0];
		;
		ungrab_ints(trpt->bup.ovals, 3);
		goto R999;

	case 56: // STATE 73
		;
		now.journal = trpt->bup.ovals[7];
		now.source = trpt->bup.ovals[6];
		now.dump = trpt->bup.ovals[5];
		now.guardian = trpt->bup.ovals[4];
		now.server = trpt->bup.ovals[3];
		now.driver = trpt->bup.ovals[2];
		now.src_rebooted = trpt->bup.ovals[1];
		now.faults = trpt->bup.ovals[0];
		;
		ungrab_ints(trpt->bup.ovals, 8);
		goto R999;

	case 57: // STATE 82
		;
		now.restored = trpt->bup.ovals[6];
		now.restore = trpt->bup.ovals[5];
		now.holder = trpt->bup.ovals[4];
		now.daemon = trpt->bup.ovals[3];
		now.keeper = trpt->bup.ovals[2];
		now.agent = trpt->bup.ovals[1];
		now.faults = trpt->bup.ovals[0];
		;
		ungrab_ints(trpt->bup.ovals, 7);
		goto R999;

	case 58: // STATE 87
		;
		p_restor(II);
		;
		;
		goto R999;

		 /* PROC Daemon */

	case 59: // STATE 2
		;
		now.missing = trpt->bup.oval;
		;
		goto R999;

	case 60: // STATE 8
		;
		now.daemon_end = trpt->bup.ovals[3];
		now.holder = trpt->bup.ovals[2];
		now.daemon = trpt->bup.ovals[1];
		now.drained = trpt->bup.ovals[0];
		;
		ungrab_ints(trpt->bup.ovals, 4);
		goto R999;
;
		;
		
	case 62: // STATE 21
		;
		now.holder = trpt->bup.ovals[2];
		now.daemon = trpt->bup.ovals[1];
		now.daemon_end = trpt->bup.ovals[0];
		;
		ungrab_ints(trpt->bup.ovals, 3);
		goto R999;

	case 63: // STATE 21
		;
		now.holder = trpt->bup.ovals[3];
		now.daemon = trpt->bup.ovals[2];
		now.daemon_end = trpt->bup.ovals[1];
		now.drained = trpt->bup.ovals[0];
		;
		ungrab_ints(trpt->bup.ovals, 4);
		goto R999;

	case 64: // STATE 21
		;
		now.holder = trpt->bup.ovals[2];
		now.daemon = trpt->bup.ovals[1];
		now.daemon_end = trpt->bup.ovals[0];
		;
		ungrab_ints(trpt->bup.ovals, 3);
		goto R999;

	case 65: // STATE 21
		;
		now.holder = trpt->bup.ovals[1];
		now.daemon = trpt->bup.ovals[0];
		;
		ungrab_ints(trpt->bup.ovals, 2);
		goto R999;

	case 66: // STATE 24
		;
		now.zeroed = trpt->bup.oval;
		;
		goto R999;

	case 67: // STATE 29
		;
		p_restor(II);
		;
		;
		goto R999;

		 /* PROC Restore */
;
		;
		;
		;
		;
		;
		
	case 71: // STATE 3
		;
		now.restored = trpt->bup.oval;
		;
		goto R999;

	case 72: // STATE 4
		;
		now.restore = trpt->bup.oval;
		;
		goto R999;

	case 73: // STATE 11
		;
		now.restore = trpt->bup.ovals[1];
		now.restored = trpt->bup.ovals[0];
		;
		ungrab_ints(trpt->bup.ovals, 2);
		goto R999;

	case 74: // STATE 16
		;
		p_restor(II);
		;
		;
		goto R999;

		 /* PROC Keeper */
;
		;
		;
		;
		;
		;
		
	case 78: // STATE 3
		;
		now.restored = trpt->bup.oval;
		;
		goto R999;

	case 79: // STATE 4
		;
		now.restore = trpt->bup.oval;
		;
		goto R999;

	case 80: // STATE 5
		;
		now.daemon = trpt->bup.oval;
		;
		goto R999;

	case 81: // STATE 6
		;
		now.holder = trpt->bup.oval;
		;
		goto R999;

	case 82: // STATE 7
		;
		now.agent = trpt->bup.oval;
		;
		goto R999;

	case 83: // STATE 8
		;
		now.keeper = trpt->bup.oval;
		;
		goto R999;
;
		;
		
	case 85: // STATE 17
		;
		p_restor(II);
		;
		;
		goto R999;

		 /* PROC Agent */
;
		;
		;
		;
		
	case 88: // STATE 2
		;
		now.daemon = trpt->bup.oval;
		;
		goto R999;

	case 89: // STATE 3
		;
		now.holder = trpt->bup.oval;
		;
		goto R999;

	case 90: // STATE 4
		;
		now.want_daemon = trpt->bup.oval;
		;
		goto R999;
;
		;
		
	case 92: // STATE 7
		;
		now.restore = trpt->bup.oval;
		;
		goto R999;

	case 93: // STATE 8
		;
		now.restored = trpt->bup.oval;
		;
		goto R999;

	case 94: // STATE 9
		;
		now.want_restore = trpt->bup.oval;
		;
		goto R999;
;
		;
		
	case 96: // STATE 12
		;
		now.asked = trpt->bup.oval;
		;
		goto R999;
;
		;
		
	case 98: // STATE 15
		;
		now.running = trpt->bup.oval;
		;
		goto R999;

	case 99: // STATE 16
		;
		now.gate = trpt->bup.oval;
		;
		goto R999;
;
		;
		;
		;
		
	case 102: // STATE 20
		;
		now.restored = trpt->bup.oval;
		;
		goto R999;

	case 103: // STATE 21
		;
		now.failed_said = trpt->bup.oval;
		;
		goto R999;

	case 104: // STATE 22
		;
		now.running = trpt->bup.oval;
		;
		goto R999;
;
		;
		
	case 106: // STATE 25
		;
		now.restored_said = trpt->bup.oval;
		;
		goto R999;
;
		;
		
	case 108: // STATE 28
		;
		now.may_run_said = trpt->bup.oval;
		;
		goto R999;
;
		;
		;
		;
		
	case 111: // STATE 32
		;
		now.daemon = trpt->bup.oval;
		;
		goto R999;
;
		;
		
	case 113: // STATE 34
		;
		now.daemon_end = trpt->bup.oval;
		;
		goto R999;
;
		;
		
	case 115: // STATE 39
		;
		now.daemon_end = trpt->bup.oval;
		;
		goto R999;

	case 116: // STATE 44
		;
		now.restored = trpt->bup.oval;
		;
		goto R999;

	case 117: // STATE 45
		;
		now.restore = trpt->bup.oval;
		;
		goto R999;

	case 118: // STATE 46
		;
		now.daemon = trpt->bup.oval;
		;
		goto R999;

	case 119: // STATE 47
		;
		now.holder = trpt->bup.oval;
		;
		goto R999;

	case 120: // STATE 48
		;
		now.agent = trpt->bup.oval;
		;
		goto R999;

	case 121: // STATE 49
		;
		now.keeper = trpt->bup.oval;
		;
		goto R999;

	case 122: // STATE 55
		;
		p_restor(II);
		;
		;
		goto R999;

		 /* PROC Driver */

	case 123: // STATE 1
		;
		now.server = trpt->bup.oval;
		;
		goto R999;
;
		;
		
	case 125: // STATE 2
		;
		now.journal = trpt->bup.oval;
		;
		goto R999;

	case 126: // STATE 3
		;
		now.disk = trpt->bup.oval;
		;
		goto R999;

	case 127: // STATE 7
		;
		now.journal = trpt->bup.oval;
		;
		goto R999;

	case 128: // STATE 8
		;
		now.disk = trpt->bup.oval;
		;
		goto R999;

	case 129: // STATE 11
		;
		now.dump = trpt->bup.oval;
		;
		goto R999;

	case 130: // STATE 12
		;
		now.source = trpt->bup.oval;
		;
		goto R999;

	case 131: // STATE 13
		;
		now.guardian = trpt->bup.oval;
		;
		goto R999;

	case 132: // STATE 15
		;
		now.journal = trpt->bup.oval;
		;
		goto R999;

	case 133: // STATE 16
		;
		now.disk = trpt->bup.oval;
		;
		goto R999;
;
		;
		
	case 135: // STATE 26
		;
		now.want_daemon = trpt->bup.oval;
		;
		goto R999;
;
		;
		
	case 137: // STATE 28
		;
		now.journal = trpt->bup.oval;
		;
		goto R999;

	case 138: // STATE 29
		;
		now.disk = trpt->bup.oval;
		;
		goto R999;
;
		;
		
	case 140: // STATE 39
		;
		now.want_restore = trpt->bup.oval;
		;
		goto R999;
;
		;
		;
		;
		;
		;
		;
		;
		
	case 145: // STATE 48
		;
		now.journal = trpt->bup.oval;
		;
		goto R999;

	case 146: // STATE 49
		;
		now.disk = trpt->bup.oval;
		;
		goto R999;
;
		;
		
	case 148: // STATE 55
		;
		now.op = trpt->bup.oval;
		;
		goto R999;

	case 149: // STATE 56
		;
		now.answer = trpt->bup.oval;
		;
		goto R999;
;
		;
		;
		;
		
	case 152: // STATE 64
		;
		now.op = trpt->bup.oval;
		;
		goto R999;

	case 153: // STATE 65
		;
		now.answer = trpt->bup.oval;
		;
		goto R999;
;
		;
		
	case 155: // STATE 68
		;
		now.op = trpt->bup.oval;
		;
		goto R999;

	case 156: // STATE 69
		;
		now.answer = trpt->bup.oval;
		;
		goto R999;
;
		;
		
	case 158: // STATE 73
		;
		now.op = trpt->bup.oval;
		;
		goto R999;
;
		;
		;
		;
		
	case 161: // STATE 83
		;
		now.went = trpt->bup.oval;
		;
		goto R999;
;
		;
		
	case 163: // STATE 85
		;
		now.journal = trpt->bup.oval;
		;
		goto R999;

	case 164: // STATE 86
		;
		now.disk = trpt->bup.oval;
		;
		goto R999;
;
		;
		;
		;
		;
		;
		;
		;
		
	case 169: // STATE 103
		;
		now.journal = trpt->bup.oval;
		;
		goto R999;

	case 170: // STATE 104
		;
		now.disk = trpt->bup.oval;
		;
		goto R999;
;
		;
		;
		;
		
	case 173: // STATE 113
		;
		now.committing = trpt->bup.oval;
		;
		goto R999;

	case 174: // STATE 114
		;
		now.journal = trpt->bup.oval;
		;
		goto R999;

	case 175: // STATE 115
		;
		now.disk = trpt->bup.oval;
		;
		goto R999;
;
		;
		
	case 177: // STATE 122
		;
		now.op = trpt->bup.oval;
		;
		goto R999;

	case 178: // STATE 123
		;
		now.answer = trpt->bup.oval;
		;
		goto R999;
;
		;
		;
		;
		
	case 181: // STATE 133
		;
		now.op = trpt->bup.oval;
		;
		goto R999;

	case 182: // STATE 134
		;
		now.answer = trpt->bup.oval;
		;
		goto R999;
;
		;
		
	case 184: // STATE 138
		;
		now.op = trpt->bup.oval;
		;
		goto R999;

	case 185: // STATE 139
		;
		now.answer = trpt->bup.oval;
		;
		goto R999;
;
		;
		
	case 187: // STATE 143
		;
		now.op = trpt->bup.oval;
		;
		goto R999;

	case 188: // STATE 144
		;
		now.answer = trpt->bup.oval;
		;
		goto R999;
;
		;
		;
		;
		;
		;
		
	case 192: // STATE 158
		;
		now.said = trpt->bup.oval;
		;
		goto R999;

	case 193: // STATE 159
		;
		now.journal = trpt->bup.oval;
		;
		goto R999;

	case 194: // STATE 160
		;
		now.disk = trpt->bup.oval;
		;
		goto R999;

	case 195: // STATE 163
		;
		now.driver = trpt->bup.oval;
		;
		goto R999;

	case 196: // STATE 165
		;
		now.lifeline = trpt->bup.oval;
		;
		goto R999;

	case 197: // STATE 166
		;
		now.op = trpt->bup.oval;
		;
		goto R999;
;
		;
		
	case 199: // STATE 168
		;
		now.op = trpt->bup.oval;
		;
		goto R999;

	case 200: // STATE 169
		;
		now.answer = trpt->bup.oval;
		;
		goto R999;
;
		;
		
	case 202: // STATE 172
		;
		now.op = trpt->bup.oval;
		;
		goto R999;

	case 203: // STATE 173
		;
		now.answer = trpt->bup.oval;
		;
		goto R999;
;
		;
		
	case 205: // STATE 176
		;
		now.op = trpt->bup.oval;
		;
		goto R999;

	case 206: // STATE 177
		;
		now.fenced = trpt->bup.oval;
		;
		goto R999;
;
		;
		
	case 208: // STATE 179
		;
		now.source = trpt->bup.oval;
		;
		goto R999;

	case 209: // STATE 189
		;
		now.said = trpt->bup.oval;
		;
		goto R999;

	case 210: // STATE 190
		;
		now.journal = trpt->bup.oval;
		;
		goto R999;

	case 211: // STATE 191
		;
		now.disk = trpt->bup.oval;
		;
		goto R999;

	case 212: // STATE 194
		;
		now.driver = trpt->bup.oval;
		;
		goto R999;

	case 213: // STATE 196
		;
		now.said = trpt->bup.oval;
		;
		goto R999;

	case 214: // STATE 197
		;
		now.journal = trpt->bup.oval;
		;
		goto R999;

	case 215: // STATE 198
		;
		now.disk = trpt->bup.oval;
		;
		goto R999;

	case 216: // STATE 204
		;
		now.lifeline = trpt->bup.oval;
		;
		goto R999;

	case 217: // STATE 205
		;
		now.driver = trpt->bup.oval;
		;
		goto R999;

	case 218: // STATE 210
		;
		now.lifeline = trpt->bup.oval;
		;
		goto R999;
;
		;
		
	case 220: // STATE 214
		;
		now.answer = trpt->bup.ovals[1];
		now.op = trpt->bup.ovals[0];
		;
		ungrab_ints(trpt->bup.ovals, 2);
		goto R999;
;
		
	case 221: // STATE 217
		goto R999;

	case 222: // STATE 219
		;
		p_restor(II);
		;
		;
		goto R999;

		 /* PROC Guardian */
;
		;
		;
		;
		;
		;
		
	case 226: // STATE 3
		;
		now.wire = trpt->bup.oval;
		;
		goto R999;

	case 227: // STATE 4
		;
		now.guardian = trpt->bup.oval;
		;
		goto R999;
;
		;
		
	case 229: // STATE 7
		;
		now.server = trpt->bup.oval;
		;
		goto R999;
;
		;
		
	case 231: // STATE 10
		;
		now.guardian = trpt->bup.oval;
		;
		goto R999;

	case 232: // STATE 18
		;
		now.guardian = trpt->bup.oval;
		;
		goto R999;

	case 233: // STATE 23
		;
		p_restor(II);
		;
		;
		goto R999;

		 /* PROC Page_server */
;
		;
		;
		;
		;
		;
		
	case 237: // STATE 3
		;
		now.phase = trpt->bup.oval;
		;
		goto R999;

	case 238: // STATE 4
		;
		now.fenced = trpt->bup.oval;
		;
		goto R999;
;
		;
		
	case 240: // STATE 6
		;
		now.answer = trpt->bup.oval;
		;
		goto R999;
;
		;
		
	case 242: // STATE 9
		;
		now.fenced = trpt->bup.oval;
		;
		goto R999;
;
		;
		
	case 244: // STATE 11
		;
		now.source = trpt->bup.oval;
		;
		goto R999;

	case 245: // STATE 16
		;
		now.phase = trpt->bup.oval;
		;
		goto R999;

	case 246: // STATE 17
		;
		now.answer = trpt->bup.oval;
		;
		goto R999;
;
		;
		;
		;
		
	case 249: // STATE 22
		;
		now.answer = trpt->bup.oval;
		;
		goto R999;
;
		;
		
	case 251: // STATE 24
		;
		now.phase = trpt->bup.oval;
		;
		goto R999;

	case 252: // STATE 25
		;
		now.wire = trpt->bup.oval;
		;
		goto R999;
;
		;
		
	case 254: // STATE 27
		;
		now.answer = trpt->bup.oval;
		;
		goto R999;
;
		;
		
	case 256: // STATE 31
		;
		now.fenced = trpt->bup.oval;
		;
		goto R999;
;
		;
		
	case 258: // STATE 33
		;
		now.source = trpt->bup.oval;
		;
		goto R999;

	case 259: // STATE 38
		;
		now.phase = trpt->bup.oval;
		;
		goto R999;
;
		;
		
	case 261: // STATE 40
		;
		now.wire = trpt->bup.oval;
		;
		goto R999;
;
		;
		
	case 263: // STATE 45
		;
		now.answer = trpt->bup.oval;
		;
		goto R999;
;
		;
		;
		;
		
	case 266: // STATE 48
		;
		now.wire = trpt->bup.oval;
		;
		goto R999;
;
		;
		
	case 268: // STATE 54
		;
		now.server = trpt->bup.oval;
		;
		goto R999;

	case 269: // STATE 64
		;
		p_restor(II);
		;
		;
		goto R999;

		 /* PROC Dump */

	case 270: // STATE 3
		;
		now.source = trpt->bup.ovals[1];
		now.dump = trpt->bup.ovals[0];
		;
		ungrab_ints(trpt->bup.ovals, 2);
		goto R999;

	case 271: // STATE 6
		;
		now.dump = trpt->bup.oval;
		;
		goto R999;

	case 272: // STATE 8
		;
		now.source = trpt->bup.oval;
		;
		goto R999;
;
		
	case 273: // STATE 13
		goto R999;

	case 274: // STATE 10
		;
		now.source = trpt->bup.oval;
		;
		goto R999;

	case 275: // STATE 17
		;
		now.dump = trpt->bup.oval;
		;
		goto R999;

	case 276: // STATE 19
		;
		now.source = trpt->bup.oval;
		;
		goto R999;
;
		
	case 277: // STATE 24
		goto R999;

	case 278: // STATE 21
		;
		now.source = trpt->bup.oval;
		;
		goto R999;

	case 279: // STATE 28
		;
		now.dump = trpt->bup.oval;
		;
		goto R999;

	case 280: // STATE 30
		;
		now.source = trpt->bup.oval;
		;
		goto R999;
;
		
	case 281: // STATE 35
		goto R999;

	case 282: // STATE 32
		;
		now.source = trpt->bup.oval;
		;
		goto R999;
;
		;
		
	case 284: // STATE 40
		;
		now.source = trpt->bup.oval;
		;
		goto R999;
;
		
	case 285: // STATE 45
		goto R999;

	case 286: // STATE 42
		;
		now.source = trpt->bup.oval;
		;
		goto R999;

	case 287: // STATE 51
		;
		p_restor(II);
		;
		;
		goto R999;
	}

