#ifdef PEG
struct T_SRC {
	char *fl; int ln;
} T_SRC[NTRANS];

void
tr_2_src(int m, char *file, int ln)
{	T_SRC[m].fl = file;
	T_SRC[m].ln = ln;
}

void
putpeg(int n, int m)
{	printf("%5d	trans %4d ", m, n);
	printf("%s:%d\n",
		T_SRC[n].fl, T_SRC[n].ln);
}
#endif

void
settable(void)
{	Trans *T;
	Trans *settr(int, int, int, int, int, char *, int, int, int);

	trans = (Trans ***) emalloc(12*sizeof(Trans **));

	/* proctype 10: Monitor */

	trans[10] = (Trans **) emalloc(20*sizeof(Trans *));

	T = trans[10][17] = settr(663,0,0,0,0,"IF", 0, 2, 0);
	T = T->nxt	= settr(663,0,4,0,0,"IF", 0, 2, 0);
	T = T->nxt	= settr(663,0,8,0,0,"IF", 0, 2, 0);
	T = T->nxt	= settr(663,0,12,0,0,"IF", 0, 2, 0);
	    T->nxt	= settr(663,0,16,0,0,"IF", 0, 2, 0);
	T = trans[ 10][4] = settr(650,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(650,2,1,0,0,"ATOMIC", 1, 2, 0);
	trans[10][1]	= settr(647,0,19,3,3,"(((source==4)&&(restored==3)))", 1, 2, 0); /* m: 2 -> 19,0 */
	reached10[2] = 1;
	trans[10][2]	= settr(0,0,0,0,0,"two_run = 1",0,0,0);
	trans[10][3]	= settr(0,0,0,0,0,"assert(!(two_run))",0,0,0);
	trans[10][18]	= settr(664,0,19,1,0,".(goto)", 0, 2, 0);
	T = trans[ 10][8] = settr(654,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(654,2,5,0,0,"ATOMIC", 1, 2, 0);
	trans[10][5]	= settr(651,0,19,4,4,"(((((source==1)&&!(source_killed))&&!(src_rebooted))&&!((!(missing)||(restored==1)))))", 1, 2, 0); /* m: 6 -> 19,0 */
	reached10[6] = 1;
	trans[10][6]	= settr(0,0,0,0,0,"lost_by_us = 1",0,0,0);
	trans[10][7]	= settr(0,0,0,0,0,"assert(!(lost_by_us))",0,0,0);
	T = trans[ 10][12] = settr(658,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(658,2,9,0,0,"ATOMIC", 1, 2, 0);
	trans[10][9]	= settr(655,0,19,5,5,"(((((said==3)&&((source!=1)||!((!(missing)||(restored==1)))))||((said==2)&&(((source==3)||(source==2))||(restored==3))))||((said==1)&&!(went))))", 1, 2, 0); /* m: 10 -> 19,0 */
	reached10[10] = 1;
	trans[10][10]	= settr(0,0,0,0,0,"untrue_word = 1",0,0,0);
	trans[10][11]	= settr(0,0,0,0,0,"assert(!(untrue_word))",0,0,0);
	T = trans[ 10][16] = settr(662,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(662,2,13,0,0,"ATOMIC", 1, 2, 0);
	trans[10][13]	= settr(659,0,19,6,6,"((((((journal==3)||((((!(((journal==3)||(journal==2)))&&!(driver))&&committing)&&(source==1))&&!(dump)))&&((source!=1)||!((!(missing)||(restored==1)))))||(((journal==2)||(((!(((journal==3)||(journal==2)))&&!(driver))&&(source==4))&&!(dump)))&&(((source==3)||(source==2))||(restored==3))))||((((!(((journal==3)||(journal==2)))&&!(driver))&&src_rebooted)&&!((((((journal==7)||(journal==6))||(journal==5))||(journal==4))||(journal==1))))&&(restored==3))))", 1, 2, 0); /* m: 14 -> 19,0 */
	reached10[14] = 1;
	trans[10][14]	= settr(0,0,0,0,0,"untrue_status = 1",0,0,0);
	trans[10][15]	= settr(0,0,0,0,0,"assert(!(untrue_status))",0,0,0);
	trans[10][19]	= settr(665,0,0,7,7,"-end-", 0, 3500, 0);

	/* proctype 9: Operator */

	trans[9] = (Trans **) emalloc(87*sizeof(Trans *));

	trans[9][30]	= settr(590,0,29,1,0,".(goto)", 0, 2, 0);
	T = trans[9][29] = settr(589,0,0,0,0,"DO", 0, 2, 0);
	    T->nxt	= settr(589,0,1,0,0,"DO", 0, 2, 0);
	trans[9][1]	= settr(561,0,2,8,0,"(timeout)", 1, 3000, 0);
	trans[9][2]	= settr(562,0,27,9,9,"faults = 0", 1, 2, 0);
	T = trans[9][27] = settr(587,0,0,0,0,"IF", 0, 2, 0);
	T = T->nxt	= settr(587,0,5,0,0,"IF", 0, 2, 0);
	T = T->nxt	= settr(587,0,6,0,0,"IF", 0, 2, 0);
	    T->nxt	= settr(587,0,9,0,0,"IF", 0, 2, 0);
	T = trans[ 9][5] = settr(565,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(565,2,3,0,0,"ATOMIC", 1, 2, 0);
	trans[9][3]	= settr(563,0,29,10,10,"(!(link_up))", 1, 2, 0); /* m: 4 -> 29,0 */
	reached9[4] = 1;
	trans[9][4]	= settr(0,0,0,0,0,"link_up = 1",0,0,0);
	trans[9][28]	= settr(588,0,29,1,0,".(goto)", 0, 2, 0);
	trans[9][6]	= settr(566,0,7,11,0,"((link_up&&driver))", 1, 2, 0);
	trans[9][7]	= settr(567,0,8,12,12,"sigint = 1", 1, 2, 0);
	trans[9][8]	= settr(568,0,29,13,0,"(!(driver))", 1, 2, 0);
	trans[9][9]	= settr(569,0,26,14,0,"((link_up&&!(driver)))", 1, 2, 0);
	T = trans[ 9][26] = settr(586,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(586,2,10,0,0,"ATOMIC", 1, 2, 0);
	trans[9][10]	= settr(570,2,24,15,15,"disk_full = 0", 1, 2, 0);
	T = trans[9][24] = settr(584,2,0,0,0,"IF", 1, 2, 0);
	T = T->nxt	= settr(584,2,11,0,0,"IF", 1, 2, 0);
	T = T->nxt	= settr(584,2,13,0,0,"IF", 1, 2, 0);
	T = T->nxt	= settr(584,2,20,0,0,"IF", 1, 2, 0);
	    T->nxt	= settr(584,2,22,0,0,"IF", 1, 2, 0);
	trans[9][11]	= settr(571,4,31,16,16,"((((((journal==3)||((((!(((journal==3)||(journal==2)))&&!(driver))&&committing)&&(source==1))&&!(dump)))||((journal==2)||(((!(((journal==3)||(journal==2)))&&!(driver))&&(source==4))&&!(dump))))||(((!(((journal==3)||(journal==2)))&&!(driver))&&src_rebooted)&&!((((((journal==7)||(journal==6))||(journal==5))||(journal==4))||(journal==1)))))||(((((!(((journal==3)||(journal==2)))&&!(driver))&&(source==1))&&!(dump))&&!(((journal==3)||((((!(((journal==3)||(journal==2)))&&!(driver))&&committing)&&(source==1))&&!(dump)))))&&!((((!(((journal==3)||(journal==2)))&&!(driver))&&src_rebooted)&&!((((((journal==7)||(journal==6))||(journal==5))||(journal==4))||(journal==1))))))))", 1, 2, 0); /* m: 12 -> 31,0 */
	reached9[12] = 1;
	trans[9][12]	= settr(572,0,82,1,0,"goto :b11", 1, 2, 0);
	trans[9][25]	= settr(585,0,29,17,17,".(goto)", 1, 2, 0);
	trans[9][13]	= settr(573,2,18,18,18,"((((!((((((journal==3)||((((!(((journal==3)||(journal==2)))&&!(driver))&&committing)&&(source==1))&&!(dump)))||((journal==2)||(((!(((journal==3)||(journal==2)))&&!(driver))&&(source==4))&&!(dump))))||(((!(((journal==3)||(journal==2)))&&!(driver))&&src_rebooted)&&!((((((journal==7)||(journal==6))||(journal==5))||(journal==4))||(journal==1)))))||(((((!(((journal==3)||(journal==2)))&&!(driver))&&(source==1))&&!(dump))&&!(((journal==3)||((((!(((journal==3)||(journal==2)))&&!(driver))&&committing)&&(source==1))&&!(dump)))))&&!((((!(((journal==3)||(journal==2)))&&!(driver))&&src_rebooted)&&!((((((journal==7)||(journal==6))||(journal==5))||(journal==4))||(journal==1))))))))&&drained)&&dump)&&server))", 1, 2, 0); /* m: 14 -> 18,0 */
	reached9[14] = 1;
	trans[9][14]	= settr(0,0,0,0,0,"committing = 1",0,0,0);
	T = trans[ 9][18] = settr(578,0,0,0,0,"sub-sequence", 1, 2, 0);
	T->nxt	= settr(578,0,17,0,0,"sub-sequence", 1, 2, 0);
	T = trans[ 9][17] = settr(577,0,0,0,0,"sub-sequence", 1, 2, 0);
	T->nxt	= settr(577,0,15,0,0,"sub-sequence", 1, 2, 0);
	trans[9][15]	= settr(575,4,37,19,19,"journal = 4", 1, 2, 0); /* m: 16 -> 0,37 */
	reached9[16] = 1;
	trans[9][16]	= settr(0,0,0,0,0,"disk = 4",0,0,0);
	trans[9][19]	= settr(579,0,37,1,0,"goto commit", 1, 2, 0);
	trans[9][20]	= settr(580,0,29,20,20,"(((((((!((((((journal==3)||((((!(((journal==3)||(journal==2)))&&!(driver))&&committing)&&(source==1))&&!(dump)))||((journal==2)||(((!(((journal==3)||(journal==2)))&&!(driver))&&(source==4))&&!(dump))))||(((!(((journal==3)||(journal==2)))&&!(driver))&&src_rebooted)&&!((((((journal==7)||(journal==6))||(journal==5))||(journal==4))||(journal==1)))))||(((((!(((journal==3)||(journal==2)))&&!(driver))&&(source==1))&&!(dump))&&!(((journal==3)||((((!(((journal==3)||(journal==2)))&&!(driver))&&committing)&&(source==1))&&!(dump)))))&&!((((!(((journal==3)||(journal==2)))&&!(driver))&&src_rebooted)&&!((((((journal==7)||(journal==6))||(journal==5))||(journal==4))||(journal==1))))))))&&!(drained))&&holder)&&!(daemon))&&(restored==3))&&dump)&&server))", 1, 2, 0); /* m: 21 -> 29,0 */
	reached9[21] = 1;
	trans[9][21]	= settr(0,0,0,0,0,"daemon = 1",0,0,0);
	trans[9][22]	= settr(582,2,23,2,0,"else", 1, 2, 0);
	trans[9][23]	= settr(583,0,81,1,0,"goto abort", 1, 2, 0);
	trans[9][31]	= settr(591,0,82,1,0,"break", 0, 2, 0);
	trans[9][32]	= settr(592,0,82,1,0,"goto settled", 0, 2, 0);
	T = trans[ 9][37] = settr(597,0,0,0,0,"sub-sequence", 0, 2, 0);
	T->nxt	= settr(597,0,36,0,0,"sub-sequence", 0, 2, 0);
	T = trans[ 9][36] = settr(596,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(596,2,33,0,0,"ATOMIC", 1, 2, 0);
	trans[9][33]	= settr(593,4,38,21,21,"((server&&(op==4)))", 1, 2, 0); /* m: 34 -> 38,0 */
	reached9[34] = 1;
	trans[9][34]	= settr(0,0,0,0,0,"op = 2",0,0,0);
	trans[9][35]	= settr(0,0,0,0,0,"answer = 3",0,0,0);
	trans[9][38]	= settr(598,0,39,22,0,"(((answer!=3)||!(server)))", 1, 2, 0);
	trans[9][39]	= settr(599,0,40,23,23,"op = 4", 1, 2, 0);
	trans[9][40]	= settr(600,0,49,24,24,"answer = 3", 1, 2, 0);
	T = trans[9][49] = settr(609,0,0,0,0,"IF", 0, 2, 0);
	T = T->nxt	= settr(609,0,46,0,0,"IF", 0, 2, 0);
	    T->nxt	= settr(609,0,47,0,0,"IF", 0, 2, 0);
	T = trans[ 9][46] = settr(606,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(606,2,41,0,0,"ATOMIC", 1, 2, 0);
	trans[9][41]	= settr(601,2,45,25,0,"((source==1))", 1, 2, 0);
	T = trans[ 9][45] = settr(605,0,0,0,0,"sub-sequence", 1, 2, 0);
	T->nxt	= settr(605,0,44,0,0,"sub-sequence", 1, 2, 0);
	T = trans[ 9][44] = settr(604,0,0,0,0,"sub-sequence", 1, 2, 0);
	T->nxt	= settr(604,0,42,0,0,"sub-sequence", 1, 2, 0);
	trans[9][42]	= settr(602,0,82,26,26,"journal = 3", 1, 2, 0); /* m: 43 -> 0,82 */
	reached9[43] = 1;
	trans[9][43]	= settr(0,0,0,0,0,"disk = 3",0,0,0);
	trans[9][50]	= settr(610,0,82,1,0,".(goto)", 0, 2, 0);
	trans[9][47]	= settr(607,0,81,2,0,"else", 0, 2, 0);
	trans[9][48]	= settr(608,0,81,1,0,"goto abort", 0, 2, 0);
	trans[9][51]	= settr(611,0,82,1,0,"goto settled", 0, 2, 0);
	T = trans[ 9][81] = settr(641,0,0,0,0,"sub-sequence", 0, 2, 0);
	T->nxt	= settr(641,0,55,0,0,"sub-sequence", 0, 2, 0);
	T = trans[ 9][55] = settr(615,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(615,2,52,0,0,"ATOMIC", 1, 2, 0);
	trans[9][52]	= settr(612,0,66,27,27,"restored = ( ((restored==3)) -> (2) : (( ((restored==4)) -> (5) : (restored) )) )", 1, 2, 0); /* m: 53 -> 0,66 */
	reached9[53] = 1;
	trans[9][53]	= settr(0,0,0,0,0,"restore = 0",0,0,0);
	trans[9][54]	= settr(0,0,0,0,0,"gate = 0",0,0,0);
	trans[9][67]	= settr(627,0,66,1,0,".(goto)", 0, 2, 0);
	T = trans[9][66] = settr(626,0,0,0,0,"DO", 0, 2, 0);
	T = T->nxt	= settr(626,0,60,0,0,"DO", 0, 2, 0);
	    T->nxt	= settr(626,0,64,0,0,"DO", 0, 2, 0);
	T = trans[ 9][60] = settr(620,0,0,0,0,"sub-sequence", 0, 2, 0);
	T->nxt	= settr(620,0,59,0,0,"sub-sequence", 0, 2, 0);
	T = trans[ 9][59] = settr(619,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(619,2,56,0,0,"ATOMIC", 1, 2, 0);
	trans[9][56]	= settr(616,4,61,28,28,"((server&&(op==4)))", 1, 2, 0); /* m: 57 -> 61,0 */
	reached9[57] = 1;
	trans[9][57]	= settr(0,0,0,0,0,"op = 1",0,0,0);
	trans[9][58]	= settr(0,0,0,0,0,"answer = 3",0,0,0);
	trans[9][61]	= settr(621,0,62,29,0,"(((answer!=3)||!(server)))", 1, 2, 0);
	trans[9][62]	= settr(622,0,63,30,30,"op = 4", 1, 2, 0);
	trans[9][63]	= settr(623,0,66,31,31,"answer = 3", 1, 2, 0);
	trans[9][64]	= settr(624,0,80,32,0,"((!(dump)&&(source!=3)))", 1, 2, 0);
	trans[9][65]	= settr(625,0,80,1,0,"goto :b12", 0, 2, 0);
	trans[9][68]	= settr(628,0,80,1,0,"break", 0, 2, 0);
	T = trans[ 9][80] = settr(640,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(640,2,75,0,0,"ATOMIC", 1, 2, 0);
	T = trans[ 9][75] = settr(635,0,0,0,0,"sub-sequence", 1, 2, 0);
	T->nxt	= settr(635,0,69,0,0,"sub-sequence", 1, 2, 0);
	trans[9][69]	= settr(629,2,73,33,33,"fenced = 0", 1, 2, 0);
	T = trans[9][73] = settr(633,2,0,0,0,"IF", 1, 2, 0);
	T = T->nxt	= settr(633,2,70,0,0,"IF", 1, 2, 0);
	    T->nxt	= settr(633,2,72,0,0,"IF", 1, 2, 0);
	trans[9][70]	= settr(630,2,79,34,34,"((source==2))", 1, 2, 0); /* m: 71 -> 79,0 */
	reached9[71] = 1;
	trans[9][71]	= settr(0,0,0,0,0,"source = 4",0,0,0);
	trans[9][74]	= settr(634,2,79,1,0,".(goto)", 1, 2, 0);
	trans[9][72]	= settr(632,2,79,2,0,"else", 1, 2, 0);
	T = trans[ 9][79] = settr(639,0,0,0,0,"sub-sequence", 1, 2, 0);
	T->nxt	= settr(639,0,78,0,0,"sub-sequence", 1, 2, 0);
	T = trans[ 9][78] = settr(638,0,0,0,0,"sub-sequence", 1, 2, 0);
	T->nxt	= settr(638,0,76,0,0,"sub-sequence", 1, 2, 0);
	trans[9][76]	= settr(636,4,82,35,35,"journal = 2", 1, 2, 0); /* m: 77 -> 0,82 */
	reached9[77] = 1;
	trans[9][77]	= settr(0,0,0,0,0,"disk = 2",0,0,0);
	trans[9][82]	= settr(642,0,85,36,0,"(timeout)", 1, 3000, 0);
	T = trans[ 9][85] = settr(645,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(645,2,83,0,0,"ATOMIC", 1, 2, 0);
	trans[9][83]	= settr(643,4,86,37,37,"no_way_out = !(((((((source==4)||(restored==3))||(restored==1))||source_killed)||src_rebooted)||((restored==2)&&!(missing))))", 1, 2, 0); /* m: 84 -> 0,86 */
	reached9[84] = 1;
	trans[9][84]	= settr(0,0,0,0,0,"assert(!(no_way_out))",0,0,0);
	trans[9][86]	= settr(646,0,0,38,38,"-end-", 0, 3500, 0);

	/* proctype 8: Faults */

	trans[8] = (Trans **) emalloc(88*sizeof(Trans *));

	trans[8][85]	= settr(558,0,84,1,0,".(goto)", 0, 2, 0);
	T = trans[8][84] = settr(557,0,0,0,0,"DO", 0, 2, 0);
	T = T->nxt	= settr(557,0,4,0,0,"DO", 0, 2, 0);
	T = T->nxt	= settr(557,0,8,0,0,"DO", 0, 2, 0);
	T = T->nxt	= settr(557,0,12,0,0,"DO", 0, 2, 0);
	T = T->nxt	= settr(557,0,16,0,0,"DO", 0, 2, 0);
	T = T->nxt	= settr(557,0,20,0,0,"DO", 0, 2, 0);
	T = T->nxt	= settr(557,0,24,0,0,"DO", 0, 2, 0);
	T = T->nxt	= settr(557,0,28,0,0,"DO", 0, 2, 0);
	T = T->nxt	= settr(557,0,32,0,0,"DO", 0, 2, 0);
	T = T->nxt	= settr(557,0,43,0,0,"DO", 0, 2, 0);
	T = T->nxt	= settr(557,0,47,0,0,"DO", 0, 2, 0);
	T = T->nxt	= settr(557,0,51,0,0,"DO", 0, 2, 0);
	T = T->nxt	= settr(557,0,55,0,0,"DO", 0, 2, 0);
	T = T->nxt	= settr(557,0,59,0,0,"DO", 0, 2, 0);
	T = T->nxt	= settr(557,0,64,0,0,"DO", 0, 2, 0);
	T = T->nxt	= settr(557,0,74,0,0,"DO", 0, 2, 0);
	    T->nxt	= settr(557,0,83,0,0,"DO", 0, 2, 0);
	T = trans[ 8][4] = settr(477,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(477,2,1,0,0,"ATOMIC", 1, 2, 0);
	trans[8][1]	= settr(474,0,84,39,39,"(((faults>0)&&driver))", 1, 2, 0); /* m: 2 -> 84,0 */
	reached8[2] = 1;
	trans[8][2]	= settr(0,0,0,0,0,"driver = 0",0,0,0);
	trans[8][3]	= settr(0,0,0,0,0,"faults = (faults-1)",0,0,0);
	T = trans[ 8][8] = settr(481,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(481,2,5,0,0,"ATOMIC", 1, 2, 0);
	trans[8][5]	= settr(478,0,84,40,40,"(((faults>0)&&server))", 1, 2, 0); /* m: 6 -> 84,0 */
	reached8[6] = 1;
	trans[8][6]	= settr(0,0,0,0,0,"server = 0",0,0,0);
	trans[8][7]	= settr(0,0,0,0,0,"faults = (faults-1)",0,0,0);
	T = trans[ 8][12] = settr(485,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(485,2,9,0,0,"ATOMIC", 1, 2, 0);
	trans[8][9]	= settr(482,0,84,41,41,"(((faults>0)&&guardian))", 1, 2, 0); /* m: 10 -> 84,0 */
	reached8[10] = 1;
	trans[8][10]	= settr(0,0,0,0,0,"guardian = 0",0,0,0);
	trans[8][11]	= settr(0,0,0,0,0,"faults = (faults-1)",0,0,0);
	T = trans[ 8][16] = settr(489,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(489,2,13,0,0,"ATOMIC", 1, 2, 0);
	trans[8][13]	= settr(486,0,84,42,42,"(((faults>0)&&dump))", 1, 2, 0); /* m: 14 -> 84,0 */
	reached8[14] = 1;
	trans[8][14]	= settr(0,0,0,0,0,"dump = 0",0,0,0);
	trans[8][15]	= settr(0,0,0,0,0,"faults = (faults-1)",0,0,0);
	T = trans[ 8][20] = settr(493,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(493,2,17,0,0,"ATOMIC", 1, 2, 0);
	trans[8][17]	= settr(490,0,84,43,43,"(((faults>0)&&agent))", 1, 2, 0); /* m: 18 -> 84,0 */
	reached8[18] = 1;
	trans[8][18]	= settr(0,0,0,0,0,"agent = 0",0,0,0);
	trans[8][19]	= settr(0,0,0,0,0,"faults = (faults-1)",0,0,0);
	T = trans[ 8][24] = settr(497,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(497,2,21,0,0,"ATOMIC", 1, 2, 0);
	trans[8][21]	= settr(494,0,84,44,44,"(((faults>0)&&keeper))", 1, 2, 0); /* m: 22 -> 84,0 */
	reached8[22] = 1;
	trans[8][22]	= settr(0,0,0,0,0,"keeper = 0",0,0,0);
	trans[8][23]	= settr(0,0,0,0,0,"faults = (faults-1)",0,0,0);
	T = trans[ 8][28] = settr(501,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(501,2,25,0,0,"ATOMIC", 1, 2, 0);
	trans[8][25]	= settr(498,0,84,45,45,"(((faults>0)&&daemon))", 1, 2, 0); /* m: 26 -> 84,0 */
	reached8[26] = 1;
	trans[8][26]	= settr(0,0,0,0,0,"daemon = 0",0,0,0);
	trans[8][27]	= settr(0,0,0,0,0,"faults = (faults-1)",0,0,0);
	T = trans[ 8][32] = settr(505,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(505,2,29,0,0,"ATOMIC", 1, 2, 0);
	trans[8][29]	= settr(502,0,84,46,46,"(((faults>0)&&holder))", 1, 2, 0); /* m: 30 -> 84,0 */
	reached8[30] = 1;
	trans[8][30]	= settr(0,0,0,0,0,"holder = 0",0,0,0);
	trans[8][31]	= settr(0,0,0,0,0,"faults = (faults-1)",0,0,0);
	T = trans[ 8][43] = settr(516,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(516,2,33,0,0,"ATOMIC", 1, 2, 0);
	trans[8][33]	= settr(506,2,41,47,47,"(((faults>0)&&restore))", 1, 2, 0); /* m: 34 -> 41,0 */
	reached8[34] = 1;
	trans[8][34]	= settr(0,0,0,0,0,"restore = 0",0,0,0);
	trans[8][35]	= settr(0,0,0,0,0,"faults = (faults-1)",0,0,0);
	T = trans[8][41] = settr(514,2,0,0,0,"IF", 1, 2, 0);
	T = T->nxt	= settr(514,2,36,0,0,"IF", 1, 2, 0);
	T = T->nxt	= settr(514,2,38,0,0,"IF", 1, 2, 0);
	    T->nxt	= settr(514,2,40,0,0,"IF", 1, 2, 0);
	trans[8][36]	= settr(509,0,84,48,48,"((gate&&(restored==4)))", 1, 2, 0); /* m: 37 -> 84,0 */
	reached8[37] = 1;
	trans[8][37]	= settr(0,0,0,0,0,"restored = 3",0,0,0);
	trans[8][42]	= settr(515,0,84,49,49,".(goto)", 1, 2, 0);
	trans[8][38]	= settr(511,0,84,50,50,"((gate&&(restored==4)))", 1, 2, 0); /* m: 39 -> 84,0 */
	reached8[39] = 1;
	trans[8][39]	= settr(0,0,0,0,0,"restored = 5",0,0,0);
	trans[8][40]	= settr(513,2,42,2,0,"else", 1, 2, 0);
	T = trans[ 8][47] = settr(520,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(520,2,44,0,0,"ATOMIC", 1, 2, 0);
	trans[8][44]	= settr(517,0,84,51,51,"(((faults>0)&&link_up))", 1, 2, 0); /* m: 45 -> 84,0 */
	reached8[45] = 1;
	trans[8][45]	= settr(0,0,0,0,0,"link_up = 0",0,0,0);
	trans[8][46]	= settr(0,0,0,0,0,"faults = (faults-1)",0,0,0);
	T = trans[ 8][51] = settr(524,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(524,2,48,0,0,"ATOMIC", 1, 2, 0);
	trans[8][48]	= settr(521,0,84,52,52,"((((faults>0)&&!(disk_full))&&!(((journal==3)||(journal==2)))))", 1, 2, 0); /* m: 49 -> 84,0 */
	reached8[49] = 1;
	trans[8][49]	= settr(0,0,0,0,0,"disk_full = 1",0,0,0);
	trans[8][50]	= settr(0,0,0,0,0,"faults = (faults-1)",0,0,0);
	T = trans[ 8][55] = settr(528,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(528,2,52,0,0,"ATOMIC", 1, 2, 0);
	trans[8][52]	= settr(525,0,84,53,53,"(((((faults>0)&&(restored==3))&&!(((journal==3)||(journal==2))))&&(source!=1)))", 1, 2, 0); /* m: 53 -> 84,0 */
	reached8[53] = 1;
	trans[8][53]	= settr(0,0,0,0,0,"restored = 2",0,0,0);
	trans[8][54]	= settr(0,0,0,0,0,"faults = (faults-1)",0,0,0);
	T = trans[ 8][59] = settr(532,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(532,2,56,0,0,"ATOMIC", 1, 2, 0);
	trans[8][56]	= settr(529,0,84,54,54,"(((((faults>0)&&(restored==3))&&!(((journal==3)||(journal==2))))&&(source!=1)))", 1, 2, 0); /* m: 57 -> 84,0 */
	reached8[57] = 1;
	trans[8][57]	= settr(0,0,0,0,0,"restored = 1",0,0,0);
	trans[8][58]	= settr(0,0,0,0,0,"faults = (faults-1)",0,0,0);
	T = trans[ 8][64] = settr(537,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(537,2,60,0,0,"ATOMIC", 1, 2, 0);
	trans[8][60]	= settr(533,0,84,55,55,"((((faults>0)&&(source!=1))&&!(((journal==3)||(journal==2)))))", 1, 2, 0); /* m: 61 -> 84,0 */
	reached8[61] = 1;
	trans[8][61]	= settr(0,0,0,0,0,"source = 1",0,0,0);
	trans[8][62]	= settr(0,0,0,0,0,"source_killed = 1",0,0,0);
	trans[8][63]	= settr(0,0,0,0,0,"faults = (faults-1)",0,0,0);
	T = trans[ 8][74] = settr(547,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(547,2,65,0,0,"ATOMIC", 1, 2, 0);
	trans[8][65]	= settr(538,0,84,56,56,"((((faults>0)&&!(src_rebooted))&&!(((journal==3)||(journal==2)))))", 1, 2, 0); /* m: 66 -> 84,0 */
	reached8[66] = 1;
	trans[8][66]	= settr(0,0,0,0,0,"faults = (faults-1)",0,0,0);
	trans[8][67]	= settr(0,0,0,0,0,"src_rebooted = 1",0,0,0);
	trans[8][68]	= settr(0,0,0,0,0,"driver = 0",0,0,0);
	trans[8][69]	= settr(0,0,0,0,0,"server = 0",0,0,0);
	trans[8][70]	= settr(0,0,0,0,0,"guardian = 0",0,0,0);
	trans[8][71]	= settr(0,0,0,0,0,"dump = 0",0,0,0);
	trans[8][72]	= settr(0,0,0,0,0,"source = 1",0,0,0);
	trans[8][73]	= settr(0,0,0,0,0,"journal = disk",0,0,0);
	T = trans[ 8][83] = settr(556,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(556,2,75,0,0,"ATOMIC", 1, 2, 0);
	trans[8][75]	= settr(548,0,84,57,57,"((((faults>0)&&!(((journal==3)||(journal==2))))&&(agent||(restored!=5))))", 1, 2, 0); /* m: 76 -> 84,0 */
	reached8[76] = 1;
	trans[8][76]	= settr(0,0,0,0,0,"faults = (faults-1)",0,0,0);
	trans[8][77]	= settr(0,0,0,0,0,"agent = 0",0,0,0);
	trans[8][78]	= settr(0,0,0,0,0,"keeper = 0",0,0,0);
	trans[8][79]	= settr(0,0,0,0,0,"daemon = 0",0,0,0);
	trans[8][80]	= settr(0,0,0,0,0,"holder = 0",0,0,0);
	trans[8][81]	= settr(0,0,0,0,0,"restore = 0",0,0,0);
	trans[8][82]	= settr(0,0,0,0,0,"restored = ( ((restored==3)) -> (2) : (( ((restored==4)) -> (5) : (restored) )) )",0,0,0);
	trans[8][86]	= settr(559,0,87,1,0,"break", 0, 2, 0);
	trans[8][87]	= settr(560,0,0,58,58,"-end-", 0, 3500, 0);

	/* proctype 7: Daemon */

	trans[7] = (Trans **) emalloc(30*sizeof(Trans *));

	trans[7][27]	= settr(471,0,26,1,0,".(goto)", 0, 2, 0);
	T = trans[7][26] = settr(470,0,0,0,0,"DO", 0, 2, 0);
	T = T->nxt	= settr(470,0,3,0,0,"DO", 0, 2, 0);
	T = T->nxt	= settr(470,0,9,0,0,"DO", 0, 2, 0);
	T = T->nxt	= settr(470,0,22,0,0,"DO", 0, 2, 0);
	    T->nxt	= settr(470,0,25,0,0,"DO", 0, 2, 0);
	T = trans[ 7][3] = settr(447,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(447,2,1,0,0,"ATOMIC", 1, 2, 0);
	trans[7][1]	= settr(445,0,26,59,59,"(((((((((daemon&&(restored==3))&&missing)&&!(zeroed))&&link_up)&&server)&&dump)&&(wire==3))&&((source==3)||source_killed)))", 1, 2, 0); /* m: 2 -> 26,0 */
	reached7[2] = 1;
	trans[7][2]	= settr(0,0,0,0,0,"missing = 0",0,0,0);
	T = trans[ 7][9] = settr(453,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(453,2,4,0,0,"ATOMIC", 1, 2, 0);
	trans[7][4]	= settr(448,0,26,60,60,"((((daemon&&(((restored==3)&&!(missing))||(restored==1)))&&link_up)&&server))", 1, 2, 0); /* m: 5 -> 26,0 */
	reached7[5] = 1;
	trans[7][5]	= settr(0,0,0,0,0,"drained = 1",0,0,0);
	trans[7][6]	= settr(0,0,0,0,0,"daemon = 0",0,0,0);
	trans[7][7]	= settr(0,0,0,0,0,"holder = 0",0,0,0);
	trans[7][8]	= settr(0,0,0,0,0,"daemon_end = 3",0,0,0);
	T = trans[ 7][22] = settr(466,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(466,2,10,0,0,"ATOMIC", 1, 2, 0);
	trans[7][10]	= settr(454,2,18,61,0,"((((daemon&&(restored==2))&&(daemon_end==4))&&(link_up||missing)))", 1, 2, 0);
	T = trans[7][18] = settr(462,2,0,0,0,"IF", 1, 2, 0);
	T = T->nxt	= settr(462,2,11,0,0,"IF", 1, 2, 0);
	T = T->nxt	= settr(462,2,13,0,0,"IF", 1, 2, 0);
	    T->nxt	= settr(462,2,16,0,0,"IF", 1, 2, 0);
	trans[7][11]	= settr(455,0,26,62,62,"(missing)", 1, 2, 0); /* m: 12 -> 26,0 */
	reached7[12] = 1;
	trans[7][12]	= settr(0,0,0,0,0,"daemon_end = 2",0,0,0);
	trans[7][19]	= settr(463,2,20,1,0,".(goto)", 1, 2, 0); /* m: 20 -> 0,26 */
	reached7[20] = 1;
	trans[7][13]	= settr(457,0,26,63,63,"((!(missing)&&server))", 1, 2, 0); /* m: 14 -> 26,0 */
	reached7[14] = 1;
	trans[7][14]	= settr(0,0,0,0,0,"drained = 1",0,0,0);
	trans[7][15]	= settr(0,0,0,0,0,"daemon_end = 3",0,0,0);
	trans[7][16]	= settr(460,0,26,64,64,"((!(missing)&&!(server)))", 1, 2, 0); /* m: 17 -> 26,0 */
	reached7[17] = 1;
	trans[7][17]	= settr(0,0,0,0,0,"daemon_end = 1",0,0,0);
	trans[7][20]	= settr(464,0,26,65,65,"daemon = 0", 1, 2, 0); /* m: 21 -> 0,26 */
	reached7[21] = 1;
	trans[7][21]	= settr(0,0,0,0,0,"holder = 0",0,0,0);
	T = trans[ 7][25] = settr(469,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(469,2,23,0,0,"ATOMIC", 1, 2, 0);
	trans[7][23]	= settr(467,0,26,66,66,"(((((!(daemon)&&!(holder))&&(restored==3))&&missing)&&!(zeroed)))", 1, 2, 0); /* m: 24 -> 26,0 */
	reached7[24] = 1;
	trans[7][24]	= settr(0,0,0,0,0,"zeroed = 1",0,0,0);
	trans[7][28]	= settr(472,0,29,1,0,"break", 0, 2, 0);
	trans[7][29]	= settr(473,0,0,67,67,"-end-", 0, 3500, 0);

	/* proctype 6: Restore */

	trans[6] = (Trans **) emalloc(17*sizeof(Trans *));

	trans[6][14]	= settr(442,0,13,1,0,".(goto)", 0, 2, 0);
	T = trans[6][13] = settr(441,0,0,0,0,"DO", 0, 2, 0);
	T = T->nxt	= settr(441,0,1,0,0,"DO", 0, 2, 0);
	    T->nxt	= settr(441,0,12,0,0,"DO", 0, 2, 0);
	trans[6][1]	= settr(429,0,6,68,0,"(((restore&&gate)&&(restored==4)))", 1, 2, 0);
	T = trans[ 6][6] = settr(434,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(434,2,2,0,0,"ATOMIC", 1, 2, 0);
	trans[6][2]	= settr(430,2,3,69,0,"(restore)", 1, 2, 0);
	trans[6][2]->escp[0] = 5;
	reached6[5] = 1;
	/* escape #0: 5 */
	trans[6][5]	= settr(433,0,13,70,0,"(!(restore))", 1, 2, 0);
	trans[6][8]	= settr(436,0,13,1,0,".(goto)", 0, 2, 0);
	/* end-escapes */
	trans[6][3]	= settr(431,2,4,71,71,"restored = 3", 1, 2, 0);
	trans[6][3]->escp[0] = 5;
	reached6[5] = 1;
	/* escape #0: 5 */
	/* end-escapes */
	trans[6][4]	= settr(432,0,13,72,72,"restore = 0", 1, 2, 0);
	trans[6][4]->escp[0] = 5;
	reached6[5] = 1;
	/* escape #0: 5 */
	/* end-escapes */
	T = trans[ 6][12] = settr(440,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(440,2,9,0,0,"ATOMIC", 1, 2, 0);
	trans[6][9]	= settr(437,0,13,73,73,"(((restore&&!(gate))&&!(agent)))", 1, 2, 0); /* m: 10 -> 13,0 */
	reached6[10] = 1;
	trans[6][10]	= settr(0,0,0,0,0,"restored = 5",0,0,0);
	trans[6][11]	= settr(0,0,0,0,0,"restore = 0",0,0,0);
	trans[6][15]	= settr(443,0,16,1,0,"break", 0, 2, 0);
	trans[6][16]	= settr(444,0,0,74,74,"-end-", 0, 3500, 0);

	/* proctype 5: Keeper */

	trans[5] = (Trans **) emalloc(18*sizeof(Trans *));

	trans[5][1]	= settr(412,0,12,75,0,"(!(agent))", 1, 2, 0);
	trans[5][1]->escp[0] = 14;
	reached5[14] = 1;
	/* escape #0: 14 */
	trans[5][14]	= settr(425,0,17,76,0,"(!(keeper))", 1, 2, 0);
	trans[5][16]	= settr(427,0,17,1,0,".(goto)", 0, 2, 0);
	/* end-escapes */
	T = trans[5][12] = settr(423,0,0,0,0,"IF", 0, 2, 0);
	T = T->nxt	= settr(423,0,2,0,0,"IF", 0, 2, 0);
	    T->nxt	= settr(423,0,11,0,0,"IF", 0, 2, 0);
	trans[5][2]	= settr(413,0,10,77,0,"(!(running))", 1, 2, 0);
	trans[5][2]->escp[0] = 14;
	reached5[14] = 1;
	/* escape #0: 14 */
	/* end-escapes */
	T = trans[ 5][10] = settr(421,0,0,0,0,"sub-sequence", 0, 2, 0);
	T->nxt	= settr(421,0,9,0,0,"sub-sequence", 0, 2, 0);
	T = trans[ 5][9] = settr(420,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(420,2,3,0,0,"ATOMIC", 1, 2, 0);
	trans[5][3]	= settr(414,2,4,78,78,"restored = ( ((restored==4)) -> (5) : (restored) )", 1, 2, 0);
	trans[5][3]->escp[0] = 14;
	reached5[14] = 1;
	/* escape #0: 14 */
	/* end-escapes */
	trans[5][4]	= settr(415,2,5,79,79,"restore = 0", 1, 2, 0);
	trans[5][4]->escp[0] = 14;
	reached5[14] = 1;
	/* escape #0: 14 */
	/* end-escapes */
	trans[5][5]	= settr(416,2,6,80,80,"daemon = 0", 1, 2, 0);
	trans[5][5]->escp[0] = 14;
	reached5[14] = 1;
	/* escape #0: 14 */
	/* end-escapes */
	trans[5][6]	= settr(417,2,7,81,81,"holder = 0", 1, 2, 0);
	trans[5][6]->escp[0] = 14;
	reached5[14] = 1;
	/* escape #0: 14 */
	/* end-escapes */
	trans[5][7]	= settr(418,2,8,82,82,"agent = 0", 1, 2, 0);
	trans[5][7]->escp[0] = 14;
	reached5[14] = 1;
	/* escape #0: 14 */
	/* end-escapes */
	trans[5][8]	= settr(419,0,17,83,83,"keeper = 0", 1, 2, 0);
	trans[5][8]->escp[0] = 14;
	reached5[14] = 1;
	/* escape #0: 14 */
	/* end-escapes */
	trans[5][13]	= settr(424,0,17,1,0,".(goto)", 0, 2, 0);
	trans[5][11]	= settr(422,0,17,84,0,"(running)", 1, 2, 0);
	trans[5][11]->escp[0] = 14;
	reached5[14] = 1;
	/* escape #0: 14 */
	/* end-escapes */
	trans[5][17]	= settr(428,0,0,85,85,"-end-", 0, 3500, 0);

	/* proctype 4: Agent */

	trans[4] = (Trans **) emalloc(56*sizeof(Trans *));

	trans[4][42]	= settr(398,0,41,1,0,".(goto)", 0, 2, 0);
	T = trans[4][41] = settr(397,0,0,0,0,"DO", 0, 2, 0);
	T = T->nxt	= settr(397,0,5,0,0,"DO", 0, 2, 0);
	T = T->nxt	= settr(397,0,10,0,0,"DO", 0, 2, 0);
	T = T->nxt	= settr(397,0,13,0,0,"DO", 0, 2, 0);
	T = T->nxt	= settr(397,0,14,0,0,"DO", 0, 2, 0);
	T = T->nxt	= settr(397,0,17,0,0,"DO", 0, 2, 0);
	T = T->nxt	= settr(397,0,23,0,0,"DO", 0, 2, 0);
	T = T->nxt	= settr(397,0,26,0,0,"DO", 0, 2, 0);
	T = T->nxt	= settr(397,0,29,0,0,"DO", 0, 2, 0);
	T = T->nxt	= settr(397,0,37,0,0,"DO", 0, 2, 0);
	    T->nxt	= settr(397,0,40,0,0,"DO", 0, 2, 0);
	T = trans[ 4][5] = settr(361,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(361,2,1,0,0,"ATOMIC", 1, 2, 0);
	trans[4][1]	= settr(357,2,2,86,0,"(((want_daemon&&link_up)&&driver))", 1, 2, 0);
	trans[4][1]->escp[0] = 52;
	reached4[52] = 1;
	/* escape #0: 52 */
	trans[4][52]	= settr(408,0,55,87,0,"(!(agent))", 1, 2, 0);
	trans[4][54]	= settr(410,0,55,1,0,".(goto)", 0, 2, 0);
	/* end-escapes */
	trans[4][2]	= settr(358,2,3,88,88,"daemon = 1", 1, 2, 0);
	trans[4][2]->escp[0] = 52;
	reached4[52] = 1;
	/* escape #0: 52 */
	/* end-escapes */
	trans[4][3]	= settr(359,2,4,89,89,"holder = 1", 1, 2, 0);
	trans[4][3]->escp[0] = 52;
	reached4[52] = 1;
	/* escape #0: 52 */
	/* end-escapes */
	trans[4][4]	= settr(360,0,41,90,90,"want_daemon = 0", 1, 2, 0);
	trans[4][4]->escp[0] = 52;
	reached4[52] = 1;
	/* escape #0: 52 */
	/* end-escapes */
	T = trans[ 4][10] = settr(366,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(366,2,6,0,0,"ATOMIC", 1, 2, 0);
	trans[4][6]	= settr(362,2,7,91,0,"(((want_restore&&link_up)&&driver))", 1, 2, 0);
	trans[4][6]->escp[0] = 52;
	reached4[52] = 1;
	/* escape #0: 52 */
	/* end-escapes */
	trans[4][7]	= settr(363,2,8,92,92,"restore = 1", 1, 2, 0);
	trans[4][7]->escp[0] = 52;
	reached4[52] = 1;
	/* escape #0: 52 */
	/* end-escapes */
	trans[4][8]	= settr(364,2,9,93,93,"restored = 4", 1, 2, 0);
	trans[4][8]->escp[0] = 52;
	reached4[52] = 1;
	/* escape #0: 52 */
	/* end-escapes */
	trans[4][9]	= settr(365,0,41,94,94,"want_restore = 0", 1, 2, 0);
	trans[4][9]->escp[0] = 52;
	reached4[52] = 1;
	/* escape #0: 52 */
	/* end-escapes */
	T = trans[ 4][13] = settr(369,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(369,2,11,0,0,"ATOMIC", 1, 2, 0);
	trans[4][11]	= settr(367,2,12,95,0,"(((((restored==4)&&restore)&&!(asked))&&link_up))", 1, 2, 0);
	trans[4][11]->escp[0] = 52;
	reached4[52] = 1;
	/* escape #0: 52 */
	/* end-escapes */
	trans[4][12]	= settr(368,0,41,96,96,"asked = 1", 1, 2, 0);
	trans[4][12]->escp[0] = 52;
	reached4[52] = 1;
	/* escape #0: 52 */
	/* end-escapes */
	trans[4][14]	= settr(370,0,15,97,0,"(((((went&&link_up)&&!(running))&&restore)&&!(failed_said)))", 1, 2, 0);
	trans[4][14]->escp[0] = 52;
	reached4[52] = 1;
	/* escape #0: 52 */
	/* end-escapes */
	trans[4][15]	= settr(371,0,16,98,98,"running = 1", 1, 2, 0);
	trans[4][15]->escp[0] = 52;
	reached4[52] = 1;
	/* escape #0: 52 */
	/* end-escapes */
	trans[4][16]	= settr(372,0,41,99,99,"gate = 1", 1, 2, 0);
	trans[4][16]->escp[0] = 52;
	reached4[52] = 1;
	/* escape #0: 52 */
	/* end-escapes */
	trans[4][17]	= settr(373,0,51,100,0,"((!(running)&&(!(driver)||!(link_up))))", 1, 2, 0);
	trans[4][17]->escp[0] = 52;
	reached4[52] = 1;
	/* escape #0: 52 */
	/* end-escapes */
	trans[4][18]	= settr(374,0,51,1,0,"goto :b7", 0, 2, 0);
	trans[4][18]->escp[0] = 52;
	reached4[52] = 1;
	/* escape #0: 52 */
	/* end-escapes */
	T = trans[ 4][23] = settr(379,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(379,2,19,0,0,"ATOMIC", 1, 2, 0);
	trans[4][19]	= settr(375,2,20,101,0,"((((((asked&&!(restore))&&!(gate))&&(restored!=3))&&!(failed_said))&&link_up))", 1, 2, 0);
	trans[4][19]->escp[0] = 52;
	reached4[52] = 1;
	/* escape #0: 52 */
	/* end-escapes */
	trans[4][20]	= settr(376,2,21,102,102,"restored = 5", 1, 2, 0);
	trans[4][20]->escp[0] = 52;
	reached4[52] = 1;
	/* escape #0: 52 */
	/* end-escapes */
	trans[4][21]	= settr(377,2,22,103,103,"failed_said = 1", 1, 2, 0);
	trans[4][21]->escp[0] = 52;
	reached4[52] = 1;
	/* escape #0: 52 */
	/* end-escapes */
	trans[4][22]	= settr(378,0,41,104,104,"running = 0", 1, 2, 0);
	trans[4][22]->escp[0] = 52;
	reached4[52] = 1;
	/* escape #0: 52 */
	/* end-escapes */
	T = trans[ 4][26] = settr(382,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(382,2,24,0,0,"ATOMIC", 1, 2, 0);
	trans[4][24]	= settr(380,2,25,105,0,"(((((gate&&!(restore))&&link_up)&&!(restored_said))&&(restored!=5)))", 1, 2, 0);
	trans[4][24]->escp[0] = 52;
	reached4[52] = 1;
	/* escape #0: 52 */
	/* end-escapes */
	trans[4][25]	= settr(381,0,41,106,106,"restored_said = 1", 1, 2, 0);
	trans[4][25]->escp[0] = 52;
	reached4[52] = 1;
	/* escape #0: 52 */
	/* end-escapes */
	T = trans[ 4][29] = settr(385,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(385,2,27,0,0,"ATOMIC", 1, 2, 0);
	trans[4][27]	= settr(383,2,28,107,0,"(((((gate&&!(restore))&&link_up)&&(restored==5))&&!(may_run_said)))", 1, 2, 0);
	trans[4][27]->escp[0] = 52;
	reached4[52] = 1;
	/* escape #0: 52 */
	/* end-escapes */
	trans[4][28]	= settr(384,0,41,108,108,"may_run_said = 1", 1, 2, 0);
	trans[4][28]->escp[0] = 52;
	reached4[52] = 1;
	/* escape #0: 52 */
	/* end-escapes */
	T = trans[ 4][37] = settr(393,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(393,2,30,0,0,"ATOMIC", 1, 2, 0);
	trans[4][30]	= settr(386,2,35,109,0,"((((running&&!(daemon))&&(daemon_end==4))&&!(want_daemon)))", 1, 2, 0);
	trans[4][30]->escp[0] = 52;
	reached4[52] = 1;
	/* escape #0: 52 */
	/* end-escapes */
	T = trans[4][35] = settr(391,2,0,0,0,"IF", 1, 2, 0);
	T = T->nxt	= settr(391,2,31,0,0,"IF", 1, 2, 0);
	    T->nxt	= settr(391,2,33,0,0,"IF", 1, 2, 0);
	trans[4][31]	= settr(387,2,32,110,0,"(holder)", 1, 2, 0);
	trans[4][31]->escp[0] = 52;
	reached4[52] = 1;
	/* escape #0: 52 */
	/* end-escapes */
	trans[4][32]	= settr(388,2,36,111,111,"daemon = 1", 1, 2, 0);
	trans[4][32]->escp[0] = 52;
	reached4[52] = 1;
	/* escape #0: 52 */
	/* end-escapes */
	trans[4][36]	= settr(392,0,41,1,0,".(goto)", 1, 2, 0);
	trans[4][33]	= settr(389,2,34,112,0,"(!(holder))", 1, 2, 0);
	trans[4][33]->escp[0] = 52;
	reached4[52] = 1;
	/* escape #0: 52 */
	/* end-escapes */
	trans[4][34]	= settr(390,2,36,113,113,"daemon_end = 1", 1, 2, 0);
	trans[4][34]->escp[0] = 52;
	reached4[52] = 1;
	/* escape #0: 52 */
	/* end-escapes */
	T = trans[ 4][40] = settr(396,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(396,2,38,0,0,"ATOMIC", 1, 2, 0);
	trans[4][38]	= settr(394,2,39,114,0,"((((asked&&!(running))&&!(daemon))&&(daemon_end==4)))", 1, 2, 0);
	trans[4][38]->escp[0] = 52;
	reached4[52] = 1;
	/* escape #0: 52 */
	/* end-escapes */
	trans[4][39]	= settr(395,0,41,115,115,"daemon_end = 1", 1, 2, 0);
	trans[4][39]->escp[0] = 52;
	reached4[52] = 1;
	/* escape #0: 52 */
	/* end-escapes */
	trans[4][43]	= settr(399,0,51,1,0,"break", 0, 2, 0);
	trans[4][43]->escp[0] = 52;
	reached4[52] = 1;
	/* escape #0: 52 */
	/* end-escapes */
	T = trans[ 4][51] = settr(407,0,0,0,0,"sub-sequence", 0, 2, 0);
	T->nxt	= settr(407,0,50,0,0,"sub-sequence", 0, 2, 0);
	T = trans[ 4][50] = settr(406,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(406,2,44,0,0,"ATOMIC", 1, 2, 0);
	trans[4][44]	= settr(400,2,45,116,116,"restored = ( ((restored==4)) -> (5) : (restored) )", 1, 2, 0);
	trans[4][44]->escp[0] = 52;
	reached4[52] = 1;
	/* escape #0: 52 */
	/* end-escapes */
	trans[4][45]	= settr(401,2,46,117,117,"restore = 0", 1, 2, 0);
	trans[4][45]->escp[0] = 52;
	reached4[52] = 1;
	/* escape #0: 52 */
	/* end-escapes */
	trans[4][46]	= settr(402,2,47,118,118,"daemon = 0", 1, 2, 0);
	trans[4][46]->escp[0] = 52;
	reached4[52] = 1;
	/* escape #0: 52 */
	/* end-escapes */
	trans[4][47]	= settr(403,2,48,119,119,"holder = 0", 1, 2, 0);
	trans[4][47]->escp[0] = 52;
	reached4[52] = 1;
	/* escape #0: 52 */
	/* end-escapes */
	trans[4][48]	= settr(404,2,49,120,120,"agent = 0", 1, 2, 0);
	trans[4][48]->escp[0] = 52;
	reached4[52] = 1;
	/* escape #0: 52 */
	/* end-escapes */
	trans[4][49]	= settr(405,0,55,121,121,"keeper = 0", 1, 2, 0);
	trans[4][49]->escp[0] = 52;
	reached4[52] = 1;
	/* escape #0: 52 */
	/* end-escapes */
	trans[4][55]	= settr(411,0,0,122,122,"-end-", 0, 3500, 0);

	/* proctype 3: Driver */

	trans[3] = (Trans **) emalloc(220*sizeof(Trans *));

	T = trans[ 3][6] = settr(143,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(143,2,1,0,0,"ATOMIC", 1, 2, 0);
	trans[3][1]	= settr(138,2,5,123,123,"server = 1", 1, 2, 0);
	trans[3][1]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	trans[3][207]	= settr(344,0,218,124,0,"(!(driver))", 1, 2, 0);
	trans[3][209]	= settr(346,0,218,1,0,".(goto)", 0, 2, 0);
	/* end-escapes */
	T = trans[ 3][5] = settr(142,0,0,0,0,"sub-sequence", 1, 2, 0);
	T->nxt	= settr(142,0,4,0,0,"sub-sequence", 1, 2, 0);
	T = trans[ 3][4] = settr(141,0,0,0,0,"sub-sequence", 1, 2, 0);
	T->nxt	= settr(141,0,2,0,0,"sub-sequence", 1, 2, 0);
	trans[3][2]	= settr(139,2,3,125,125,"journal = 11", 1, 2, 0);
	trans[3][2]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][3]	= settr(140,0,10,126,126,"disk = 11", 1, 2, 0);
	trans[3][3]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	T = trans[ 3][10] = settr(147,0,0,0,0,"sub-sequence", 0, 2, 0);
	T->nxt	= settr(147,0,9,0,0,"sub-sequence", 0, 2, 0);
	T = trans[ 3][9] = settr(146,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(146,2,7,0,0,"ATOMIC", 1, 2, 0);
	trans[3][7]	= settr(144,2,8,127,127,"journal = 10", 1, 2, 0);
	trans[3][7]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][8]	= settr(145,0,14,128,128,"disk = 10", 1, 2, 0);
	trans[3][8]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	T = trans[ 3][14] = settr(151,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(151,2,11,0,0,"ATOMIC", 1, 2, 0);
	trans[3][11]	= settr(148,2,12,129,129,"dump = 1", 1, 2, 0);
	trans[3][11]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][12]	= settr(149,2,13,130,130,"source = 3", 1, 2, 0);
	trans[3][12]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][13]	= settr(150,0,24,131,131,"guardian = 1", 1, 2, 0);
	trans[3][13]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	T = trans[3][24] = settr(161,0,0,0,0,"IF", 0, 2, 0);
	T = T->nxt	= settr(161,0,21,0,0,"IF", 0, 2, 0);
	    T->nxt	= settr(161,0,22,0,0,"IF", 0, 2, 0);
	T = trans[ 3][21] = settr(158,0,0,0,0,"sub-sequence", 0, 2, 0);
	T->nxt	= settr(158,0,20,0,0,"sub-sequence", 0, 2, 0);
	T = trans[ 3][20] = settr(157,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(157,2,15,0,0,"ATOMIC", 1, 2, 0);
	trans[3][15]	= settr(152,2,18,132,132,"journal = 9", 1, 2, 0);
	trans[3][15]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	T = trans[3][18] = settr(155,2,0,0,0,"IF", 1, 2, 0);
	T = T->nxt	= settr(155,2,16,0,0,"IF", 1, 2, 0);
	    T->nxt	= settr(155,2,17,0,0,"IF", 1, 2, 0);
	trans[3][16]	= settr(153,2,19,133,133,"disk = 9", 1, 2, 0);
	trans[3][16]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][19]	= settr(156,0,26,1,0,".(goto)", 1, 2, 0);
	trans[3][17]	= settr(154,2,19,1,0,"(1)", 1, 2, 0);
	trans[3][17]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][25]	= settr(162,0,26,1,0,".(goto)", 0, 2, 0);
	trans[3][22]	= settr(159,0,165,134,0,"((((!(dump)||!(server))||(!(agent)||!(link_up)))||sigint))", 1, 2, 0);
	trans[3][22]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][23]	= settr(160,0,165,1,0,"goto roll_back", 0, 2, 0);
	trans[3][23]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][26]	= settr(163,0,37,135,135,"want_daemon = 1", 1, 2, 0);
	trans[3][26]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	T = trans[3][37] = settr(174,0,0,0,0,"IF", 0, 2, 0);
	T = T->nxt	= settr(174,0,27,0,0,"IF", 0, 2, 0);
	    T->nxt	= settr(174,0,35,0,0,"IF", 0, 2, 0);
	trans[3][27]	= settr(164,0,34,136,0,"(daemon)", 1, 2, 0);
	trans[3][27]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	T = trans[ 3][34] = settr(171,0,0,0,0,"sub-sequence", 0, 2, 0);
	T->nxt	= settr(171,0,33,0,0,"sub-sequence", 0, 2, 0);
	T = trans[ 3][33] = settr(170,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(170,2,28,0,0,"ATOMIC", 1, 2, 0);
	trans[3][28]	= settr(165,2,31,137,137,"journal = 8", 1, 2, 0);
	trans[3][28]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	T = trans[3][31] = settr(168,2,0,0,0,"IF", 1, 2, 0);
	T = T->nxt	= settr(168,2,29,0,0,"IF", 1, 2, 0);
	    T->nxt	= settr(168,2,30,0,0,"IF", 1, 2, 0);
	trans[3][29]	= settr(166,2,32,138,138,"disk = 8", 1, 2, 0);
	trans[3][29]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][32]	= settr(169,0,39,1,0,".(goto)", 1, 2, 0);
	trans[3][30]	= settr(167,2,32,1,0,"(1)", 1, 2, 0);
	trans[3][30]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][38]	= settr(175,0,39,1,0,".(goto)", 0, 2, 0);
	trans[3][35]	= settr(172,0,165,139,0,"((((!(dump)||!(server))||(!(agent)||!(link_up)))||sigint))", 1, 2, 0);
	trans[3][35]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][36]	= settr(173,0,165,1,0,"goto roll_back", 0, 2, 0);
	trans[3][36]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][39]	= settr(176,0,43,140,140,"want_restore = 1", 1, 2, 0);
	trans[3][39]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	T = trans[3][43] = settr(180,0,0,0,0,"IF", 0, 2, 0);
	T = T->nxt	= settr(180,0,40,0,0,"IF", 0, 2, 0);
	    T->nxt	= settr(180,0,41,0,0,"IF", 0, 2, 0);
	trans[3][40]	= settr(177,0,52,141,0,"(asked)", 1, 2, 0);
	trans[3][40]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][44]	= settr(181,0,52,1,0,".(goto)", 0, 2, 0);
	trans[3][41]	= settr(178,0,165,142,0,"((((((!(dump)||!(server))||(!(agent)||!(link_up)))||sigint)||failed_said)||(daemon_end!=4)))", 1, 2, 0);
	trans[3][41]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][42]	= settr(179,0,165,1,0,"goto roll_back", 0, 2, 0);
	trans[3][42]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	T = trans[3][52] = settr(189,0,0,0,0,"IF", 0, 2, 0);
	T = T->nxt	= settr(189,0,45,0,0,"IF", 0, 2, 0);
	    T->nxt	= settr(189,0,47,0,0,"IF", 0, 2, 0);
	trans[3][45]	= settr(182,0,165,143,0,"(disk_full)", 1, 2, 0);
	trans[3][45]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][46]	= settr(183,0,165,1,0,"goto roll_back", 0, 2, 0);
	trans[3][46]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][53]	= settr(190,0,61,1,0,".(goto)", 0, 2, 0);
	trans[3][47]	= settr(184,0,51,144,0,"(!(disk_full))", 1, 2, 0);
	trans[3][47]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	T = trans[ 3][51] = settr(188,0,0,0,0,"sub-sequence", 0, 2, 0);
	T->nxt	= settr(188,0,50,0,0,"sub-sequence", 0, 2, 0);
	T = trans[ 3][50] = settr(187,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(187,2,48,0,0,"ATOMIC", 1, 2, 0);
	trans[3][48]	= settr(185,2,49,145,145,"journal = 7", 1, 2, 0);
	trans[3][48]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][49]	= settr(186,0,61,146,146,"disk = 7", 1, 2, 0);
	trans[3][49]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	T = trans[3][61] = settr(198,0,0,0,0,"IF", 0, 2, 0);
	T = T->nxt	= settr(198,0,58,0,0,"IF", 0, 2, 0);
	    T->nxt	= settr(198,0,59,0,0,"IF", 0, 2, 0);
	T = trans[ 3][58] = settr(195,0,0,0,0,"sub-sequence", 0, 2, 0);
	T->nxt	= settr(195,0,57,0,0,"sub-sequence", 0, 2, 0);
	T = trans[ 3][57] = settr(194,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(194,2,54,0,0,"ATOMIC", 1, 2, 0);
	trans[3][54]	= settr(191,2,55,147,0,"((server&&(op==4)))", 1, 2, 0);
	trans[3][54]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][55]	= settr(192,2,56,148,148,"op = 3", 1, 2, 0);
	trans[3][55]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][56]	= settr(193,0,76,149,149,"answer = 3", 1, 2, 0);
	trans[3][56]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][62]	= settr(199,0,76,1,0,".(goto)", 0, 2, 0);
	trans[3][59]	= settr(196,0,165,150,0,"(((!(dump)||(!(server)&&!(guardian)))||sigint))", 1, 2, 0);
	trans[3][59]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][60]	= settr(197,0,165,1,0,"goto roll_back", 0, 2, 0);
	trans[3][60]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	T = trans[3][76] = settr(213,0,0,0,0,"IF", 0, 2, 0);
	T = T->nxt	= settr(213,0,66,0,0,"IF", 0, 2, 0);
	T = T->nxt	= settr(213,0,71,0,0,"IF", 0, 2, 0);
	    T->nxt	= settr(213,0,75,0,0,"IF", 0, 2, 0);
	T = trans[ 3][66] = settr(203,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(203,2,63,0,0,"ATOMIC", 1, 2, 0);
	trans[3][63]	= settr(200,2,64,151,0,"((answer==2))", 1, 2, 0);
	trans[3][63]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][64]	= settr(201,2,65,152,152,"op = 4", 1, 2, 0);
	trans[3][64]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][65]	= settr(202,0,81,153,153,"answer = 3", 1, 2, 0);
	trans[3][65]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][77]	= settr(214,0,81,1,0,".(goto)", 0, 2, 0);
	T = trans[ 3][71] = settr(208,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(208,2,67,0,0,"ATOMIC", 1, 2, 0);
	trans[3][67]	= settr(204,2,68,154,0,"((answer==1))", 1, 2, 0);
	trans[3][67]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][68]	= settr(205,2,69,155,155,"op = 4", 1, 2, 0);
	trans[3][68]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][69]	= settr(206,2,70,156,156,"answer = 3", 1, 2, 0);
	trans[3][69]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][70]	= settr(207,0,165,1,0,"goto roll_back", 1, 2, 0);
	trans[3][70]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	T = trans[ 3][75] = settr(212,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(212,2,72,0,0,"ATOMIC", 1, 2, 0);
	trans[3][72]	= settr(209,2,73,157,0,"((!(server)&&(answer==3)))", 1, 2, 0);
	trans[3][72]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][73]	= settr(210,2,74,158,158,"op = 4", 1, 2, 0);
	trans[3][73]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][74]	= settr(211,0,165,1,0,"goto roll_back", 1, 2, 0);
	trans[3][74]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	T = trans[3][81] = settr(218,0,0,0,0,"IF", 0, 2, 0);
	T = T->nxt	= settr(218,0,78,0,0,"IF", 0, 2, 0);
	    T->nxt	= settr(218,0,79,0,0,"IF", 0, 2, 0);
	trans[3][78]	= settr(215,0,83,159,0,"((dump&&!(sigint)))", 1, 2, 0);
	trans[3][78]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][82]	= settr(219,0,83,1,0,".(goto)", 0, 2, 0);
	trans[3][79]	= settr(216,0,165,160,0,"(((!(dump)||(!(agent)||!(link_up)))||sigint))", 1, 2, 0);
	trans[3][79]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][80]	= settr(217,0,165,1,0,"goto roll_back", 0, 2, 0);
	trans[3][80]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][83]	= settr(220,0,96,161,161,"went = 1", 1, 2, 0);
	trans[3][83]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	T = trans[3][96] = settr(233,0,0,0,0,"IF", 0, 2, 0);
	T = T->nxt	= settr(233,0,84,0,0,"IF", 0, 2, 0);
	T = T->nxt	= settr(233,0,92,0,0,"IF", 0, 2, 0);
	    T->nxt	= settr(233,0,94,0,0,"IF", 0, 2, 0);
	trans[3][84]	= settr(221,0,91,162,0,"(restored_said)", 1, 2, 0);
	trans[3][84]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	T = trans[ 3][91] = settr(228,0,0,0,0,"sub-sequence", 0, 2, 0);
	T->nxt	= settr(228,0,90,0,0,"sub-sequence", 0, 2, 0);
	T = trans[ 3][90] = settr(227,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(227,2,85,0,0,"ATOMIC", 1, 2, 0);
	trans[3][85]	= settr(222,2,88,163,163,"journal = 6", 1, 2, 0);
	trans[3][85]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	T = trans[3][88] = settr(225,2,0,0,0,"IF", 1, 2, 0);
	T = T->nxt	= settr(225,2,86,0,0,"IF", 1, 2, 0);
	    T->nxt	= settr(225,2,87,0,0,"IF", 1, 2, 0);
	trans[3][86]	= settr(223,2,89,164,164,"disk = 6", 1, 2, 0);
	trans[3][86]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][89]	= settr(226,0,101,1,0,".(goto)", 1, 2, 0);
	trans[3][87]	= settr(224,2,89,1,0,"(1)", 1, 2, 0);
	trans[3][87]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][97]	= settr(234,0,101,1,0,".(goto)", 0, 2, 0);
	trans[3][92]	= settr(229,0,165,165,0,"(failed_said)", 1, 2, 0);
	trans[3][92]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][93]	= settr(230,0,165,1,0,"goto roll_back", 0, 2, 0);
	trans[3][93]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][94]	= settr(231,0,206,166,0,"(((((may_run_said||(!(agent)||!(link_up)))||!(dump))||sigint)||(daemon_end>3)))", 1, 2, 0);
	trans[3][94]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][95]	= settr(232,0,206,1,0,"goto undecided", 0, 2, 0);
	trans[3][95]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	T = trans[3][101] = settr(238,0,0,0,0,"IF", 0, 2, 0);
	T = T->nxt	= settr(238,0,98,0,0,"IF", 0, 2, 0);
	    T->nxt	= settr(238,0,99,0,0,"IF", 0, 2, 0);
	trans[3][98]	= settr(235,0,109,167,0,"(drained)", 1, 2, 0);
	trans[3][98]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][102]	= settr(239,0,109,1,0,".(goto)", 0, 2, 0);
	trans[3][99]	= settr(236,0,206,168,0,"((((!(dump)||sigint)||(daemon_end==2))||(daemon_end==1)))", 1, 2, 0);
	trans[3][99]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][100]	= settr(237,0,206,1,0,"goto undecided", 0, 2, 0);
	trans[3][100]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	T = trans[ 3][109] = settr(246,0,0,0,0,"sub-sequence", 0, 2, 0);
	T->nxt	= settr(246,0,108,0,0,"sub-sequence", 0, 2, 0);
	T = trans[ 3][108] = settr(245,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(245,2,103,0,0,"ATOMIC", 1, 2, 0);
	trans[3][103]	= settr(240,2,106,169,169,"journal = 5", 1, 2, 0);
	trans[3][103]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	T = trans[3][106] = settr(243,2,0,0,0,"IF", 1, 2, 0);
	T = T->nxt	= settr(243,2,104,0,0,"IF", 1, 2, 0);
	    T->nxt	= settr(243,2,105,0,0,"IF", 1, 2, 0);
	trans[3][104]	= settr(241,2,107,170,170,"disk = 5", 1, 2, 0);
	trans[3][104]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][107]	= settr(244,0,119,1,0,".(goto)", 1, 2, 0);
	trans[3][105]	= settr(242,2,107,1,0,"(1)", 1, 2, 0);
	trans[3][105]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	T = trans[3][119] = settr(256,0,0,0,0,"IF", 0, 2, 0);
	T = T->nxt	= settr(256,0,110,0,0,"IF", 0, 2, 0);
	    T->nxt	= settr(256,0,118,0,0,"IF", 0, 2, 0);
	trans[3][110]	= settr(247,0,206,171,0,"(disk_full)", 1, 2, 0);
	trans[3][110]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][111]	= settr(248,0,206,1,0,"goto undecided", 0, 2, 0);
	trans[3][111]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][120]	= settr(257,0,129,1,0,".(goto)", 0, 2, 0);
	T = trans[ 3][118] = settr(255,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(255,2,112,0,0,"ATOMIC", 1, 2, 0);
	trans[3][112]	= settr(249,2,113,172,0,"(!(disk_full))", 1, 2, 0);
	trans[3][112]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][113]	= settr(250,2,117,173,173,"committing = 1", 1, 2, 0);
	trans[3][113]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	T = trans[ 3][117] = settr(254,0,0,0,0,"sub-sequence", 1, 2, 0);
	T->nxt	= settr(254,0,116,0,0,"sub-sequence", 1, 2, 0);
	T = trans[ 3][116] = settr(253,0,0,0,0,"sub-sequence", 1, 2, 0);
	T->nxt	= settr(253,0,114,0,0,"sub-sequence", 1, 2, 0);
	trans[3][114]	= settr(251,2,115,174,174,"journal = 4", 1, 2, 0);
	trans[3][114]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][115]	= settr(252,0,129,175,175,"disk = 4", 1, 2, 0);
	trans[3][115]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][130]	= settr(267,0,129,1,0,".(goto)", 0, 2, 0);
	T = trans[3][129] = settr(266,0,0,0,0,"DO", 0, 2, 0);
	T = T->nxt	= settr(266,0,125,0,0,"DO", 0, 2, 0);
	    T->nxt	= settr(266,0,127,0,0,"DO", 0, 2, 0);
	T = trans[ 3][125] = settr(262,0,0,0,0,"sub-sequence", 0, 2, 0);
	T->nxt	= settr(262,0,124,0,0,"sub-sequence", 0, 2, 0);
	T = trans[ 3][124] = settr(261,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(261,2,121,0,0,"ATOMIC", 1, 2, 0);
	trans[3][121]	= settr(258,2,122,176,0,"((server&&(op==4)))", 1, 2, 0);
	trans[3][121]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][122]	= settr(259,2,123,177,177,"op = 2", 1, 2, 0);
	trans[3][122]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][123]	= settr(260,0,149,178,178,"answer = 3", 1, 2, 0);
	trans[3][123]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][126]	= settr(263,0,149,1,0,"goto :b4", 0, 2, 0);
	trans[3][126]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][127]	= settr(264,0,206,179,0,"((!(dump)||sigint))", 1, 2, 0);
	trans[3][127]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][128]	= settr(265,0,206,1,0,"goto undecided", 0, 2, 0);
	trans[3][128]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][131]	= settr(268,0,149,1,0,"break", 0, 2, 0);
	trans[3][131]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][150]	= settr(287,0,149,1,0,".(goto)", 0, 2, 0);
	T = trans[3][149] = settr(286,0,0,0,0,"DO", 0, 2, 0);
	T = T->nxt	= settr(286,0,136,0,0,"DO", 0, 2, 0);
	T = T->nxt	= settr(286,0,141,0,0,"DO", 0, 2, 0);
	T = T->nxt	= settr(286,0,146,0,0,"DO", 0, 2, 0);
	    T->nxt	= settr(286,0,147,0,0,"DO", 0, 2, 0);
	T = trans[ 3][136] = settr(273,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(273,2,132,0,0,"ATOMIC", 1, 2, 0);
	trans[3][132]	= settr(269,2,133,180,0,"((answer==2))", 1, 2, 0);
	trans[3][132]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][133]	= settr(270,2,134,181,181,"op = 4", 1, 2, 0);
	trans[3][133]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][134]	= settr(271,2,135,182,182,"answer = 3", 1, 2, 0);
	trans[3][134]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][135]	= settr(272,0,156,1,0,"goto :b5", 1, 2, 0);
	trans[3][135]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	T = trans[ 3][141] = settr(278,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(278,2,137,0,0,"ATOMIC", 1, 2, 0);
	trans[3][137]	= settr(274,2,138,183,0,"((answer==1))", 1, 2, 0);
	trans[3][137]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][138]	= settr(275,2,139,184,184,"op = 4", 1, 2, 0);
	trans[3][138]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][139]	= settr(276,2,140,185,185,"answer = 3", 1, 2, 0);
	trans[3][139]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][140]	= settr(277,0,206,1,0,"goto undecided", 1, 2, 0);
	trans[3][140]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	T = trans[ 3][146] = settr(283,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(283,2,142,0,0,"ATOMIC", 1, 2, 0);
	trans[3][142]	= settr(279,2,143,186,0,"((!(dump)&&!(server)))", 1, 2, 0);
	trans[3][142]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][143]	= settr(280,2,144,187,187,"op = 4", 1, 2, 0);
	trans[3][143]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][144]	= settr(281,2,145,188,188,"answer = 3", 1, 2, 0);
	trans[3][144]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][145]	= settr(282,0,156,1,0,"goto :b5", 1, 2, 0);
	trans[3][145]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][147]	= settr(284,0,206,189,0,"((sigint&&dump))", 1, 2, 0);
	trans[3][147]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][148]	= settr(285,0,206,1,0,"goto undecided", 0, 2, 0);
	trans[3][148]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][151]	= settr(288,0,156,1,0,"break", 0, 2, 0);
	trans[3][151]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	T = trans[3][156] = settr(293,0,0,0,0,"IF", 0, 2, 0);
	T = T->nxt	= settr(293,0,152,0,0,"IF", 0, 2, 0);
	    T->nxt	= settr(293,0,154,0,0,"IF", 0, 2, 0);
	trans[3][152]	= settr(289,0,164,190,0,"((source==1))", 1, 2, 0);
	trans[3][152]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][153]	= settr(290,0,164,1,0,"goto committed", 0, 2, 0);
	trans[3][153]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][157]	= settr(294,0,164,1,0,".(goto)", 0, 2, 0);
	trans[3][154]	= settr(291,0,206,191,0,"((source!=1))", 1, 2, 0);
	trans[3][154]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][155]	= settr(292,0,206,1,0,"goto undecided", 0, 2, 0);
	trans[3][155]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	T = trans[ 3][164] = settr(301,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(301,2,158,0,0,"ATOMIC", 1, 2, 0);
	trans[3][158]	= settr(295,2,162,192,192,"said = 3", 1, 2, 0);
	trans[3][158]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	T = trans[ 3][162] = settr(299,0,0,0,0,"sub-sequence", 1, 2, 0);
	T->nxt	= settr(299,0,161,0,0,"sub-sequence", 1, 2, 0);
	T = trans[ 3][161] = settr(298,0,0,0,0,"sub-sequence", 1, 2, 0);
	T->nxt	= settr(298,0,159,0,0,"sub-sequence", 1, 2, 0);
	trans[3][159]	= settr(296,2,160,193,193,"journal = 3", 1, 2, 0);
	trans[3][159]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][160]	= settr(297,2,163,194,194,"disk = 3", 1, 2, 0);
	trans[3][160]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][163]	= settr(300,0,165,195,195,"driver = 0", 1, 2, 0);
	trans[3][163]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][165]	= settr(302,0,166,196,196,"lifeline = 0", 1, 2, 0);
	trans[3][165]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][166]	= settr(303,0,186,197,197,"op = 4", 1, 2, 0);
	trans[3][166]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][187]	= settr(324,0,186,1,0,".(goto)", 0, 2, 0);
	T = trans[3][186] = settr(323,0,0,0,0,"DO", 0, 2, 0);
	T = T->nxt	= settr(323,0,170,0,0,"DO", 0, 2, 0);
	T = T->nxt	= settr(323,0,174,0,0,"DO", 0, 2, 0);
	    T->nxt	= settr(323,0,185,0,0,"DO", 0, 2, 0);
	T = trans[ 3][170] = settr(307,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(307,2,167,0,0,"ATOMIC", 1, 2, 0);
	trans[3][167]	= settr(304,2,168,198,0,"(((((phase!=3)||fenced)&&server)&&(op==4)))", 1, 2, 0);
	trans[3][167]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][168]	= settr(305,2,169,199,199,"op = 1", 1, 2, 0);
	trans[3][168]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][169]	= settr(306,0,186,200,200,"answer = 3", 1, 2, 0);
	trans[3][169]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	T = trans[ 3][174] = settr(311,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(311,2,171,0,0,"ATOMIC", 1, 2, 0);
	trans[3][171]	= settr(308,2,172,201,0,"(((op==1)&&((answer!=3)||!(server))))", 1, 2, 0);
	trans[3][171]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][172]	= settr(309,2,173,202,202,"op = 4", 1, 2, 0);
	trans[3][172]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][173]	= settr(310,0,186,203,203,"answer = 3", 1, 2, 0);
	trans[3][173]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	T = trans[ 3][185] = settr(322,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(322,2,175,0,0,"ATOMIC", 1, 2, 0);
	trans[3][175]	= settr(312,2,176,204,0,"((!(dump)&&(source!=3)))", 1, 2, 0);
	trans[3][175]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][176]	= settr(313,2,183,205,205,"op = 4", 1, 2, 0);
	trans[3][176]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	T = trans[ 3][183] = settr(320,0,0,0,0,"sub-sequence", 1, 2, 0);
	T->nxt	= settr(320,0,177,0,0,"sub-sequence", 1, 2, 0);
	trans[3][177]	= settr(314,2,181,206,206,"fenced = 0", 1, 2, 0);
	trans[3][177]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	T = trans[3][181] = settr(318,2,0,0,0,"IF", 1, 2, 0);
	T = T->nxt	= settr(318,2,178,0,0,"IF", 1, 2, 0);
	    T->nxt	= settr(318,2,180,0,0,"IF", 1, 2, 0);
	trans[3][178]	= settr(315,2,179,207,0,"((source==2))", 1, 2, 0);
	trans[3][178]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][179]	= settr(316,2,182,208,208,"source = 4", 1, 2, 0);
	trans[3][179]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][182]	= settr(319,2,184,1,0,".(goto)", 1, 2, 0);
	trans[3][180]	= settr(317,2,182,2,0,"else", 1, 2, 0);
	trans[3][180]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][184]	= settr(321,0,195,1,0,"goto :b6", 1, 2, 0);
	trans[3][184]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][188]	= settr(325,0,195,1,0,"break", 0, 2, 0);
	trans[3][188]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	T = trans[ 3][195] = settr(332,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(332,2,189,0,0,"ATOMIC", 1, 2, 0);
	trans[3][189]	= settr(326,2,193,209,209,"said = 2", 1, 2, 0);
	trans[3][189]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	T = trans[ 3][193] = settr(330,0,0,0,0,"sub-sequence", 1, 2, 0);
	T->nxt	= settr(330,0,192,0,0,"sub-sequence", 1, 2, 0);
	T = trans[ 3][192] = settr(329,0,0,0,0,"sub-sequence", 1, 2, 0);
	T->nxt	= settr(329,0,190,0,0,"sub-sequence", 1, 2, 0);
	trans[3][190]	= settr(327,2,191,210,210,"journal = 2", 1, 2, 0);
	trans[3][190]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][191]	= settr(328,2,194,211,211,"disk = 2", 1, 2, 0);
	trans[3][191]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][194]	= settr(331,0,206,212,212,"driver = 0", 1, 2, 0);
	trans[3][194]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	T = trans[ 3][206] = settr(343,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(343,2,196,0,0,"ATOMIC", 1, 2, 0);
	trans[3][196]	= settr(333,2,203,213,213,"said = 1", 1, 2, 0);
	trans[3][196]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	T = trans[ 3][203] = settr(340,0,0,0,0,"sub-sequence", 1, 2, 0);
	T->nxt	= settr(340,0,202,0,0,"sub-sequence", 1, 2, 0);
	T = trans[ 3][202] = settr(339,0,0,0,0,"sub-sequence", 1, 2, 0);
	T->nxt	= settr(339,0,197,0,0,"sub-sequence", 1, 2, 0);
	trans[3][197]	= settr(334,2,200,214,214,"journal = 1", 1, 2, 0);
	trans[3][197]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	T = trans[3][200] = settr(337,2,0,0,0,"IF", 1, 2, 0);
	T = T->nxt	= settr(337,2,198,0,0,"IF", 1, 2, 0);
	    T->nxt	= settr(337,2,199,0,0,"IF", 1, 2, 0);
	trans[3][198]	= settr(335,2,204,215,215,"disk = 1", 1, 2, 0);
	trans[3][198]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][201]	= settr(338,2,204,1,0,".(goto)", 1, 2, 0);
	trans[3][199]	= settr(336,2,204,1,0,"(1)", 1, 2, 0);
	trans[3][199]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][204]	= settr(341,2,205,216,216,"lifeline = 0", 1, 2, 0);
	trans[3][204]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	trans[3][205]	= settr(342,0,218,217,217,"driver = 0", 1, 2, 0);
	trans[3][205]->escp[0] = 207;
	reached3[207] = 1;
	/* escape #0: 207 */
	/* end-escapes */
	T = trans[ 3][218] = settr(355,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(355,2,210,0,0,"ATOMIC", 1, 2, 0);
	trans[3][210]	= settr(347,2,216,218,218,"lifeline = 0", 1, 2, 0);
	T = trans[3][216] = settr(353,2,0,0,0,"IF", 1, 2, 0);
	T = T->nxt	= settr(353,2,211,0,0,"IF", 1, 2, 0);
	    T->nxt	= settr(353,2,215,0,0,"IF", 1, 2, 0);
	trans[3][211]	= settr(348,2,212,219,0,"((op!=4))", 1, 2, 0);
	trans[3][212]	= settr(349,4,219,220,220,"((!(server)||(answer!=3)))", 1, 2, 0); /* m: 213 -> 219,0 */
	reached3[213] = 1;
	trans[3][213]	= settr(0,0,0,0,0,"op = 4",0,0,0);
	trans[3][214]	= settr(0,0,0,0,0,"answer = 3",0,0,0);
	trans[3][217]	= settr(354,0,219,221,221,".(goto)", 1, 2, 0);
	trans[3][215]	= settr(352,2,217,2,0,"else", 1, 2, 0);
	trans[3][219]	= settr(356,0,0,222,222,"-end-", 0, 3500, 0);

	/* proctype 2: Guardian */

	trans[2] = (Trans **) emalloc(24*sizeof(Trans *));

	trans[2][21]	= settr(135,0,20,1,0,".(goto)", 0, 2, 0);
	T = trans[2][20] = settr(134,0,0,0,0,"DO", 0, 2, 0);
	T = T->nxt	= settr(134,0,1,0,0,"DO", 0, 2, 0);
	    T->nxt	= settr(134,0,19,0,0,"DO", 0, 2, 0);
	trans[2][1]	= settr(115,0,12,223,0,"(((guardian&&!(server))&&dump))", 1, 2, 0);
	T = trans[2][12] = settr(126,0,0,0,0,"IF", 0, 2, 0);
	T = T->nxt	= settr(126,0,5,0,0,"IF", 0, 2, 0);
	T = T->nxt	= settr(126,0,8,0,0,"IF", 0, 2, 0);
	    T->nxt	= settr(126,0,11,0,0,"IF", 0, 2, 0);
	T = trans[ 2][5] = settr(119,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(119,2,2,0,0,"ATOMIC", 1, 2, 0);
	trans[2][2]	= settr(116,2,3,224,0,"(((phase==3)&&(wire==3)))", 1, 2, 0);
	trans[2][2]->escp[0] = 14;
	reached2[14] = 1;
	/* escape #0: 14 */
	trans[2][14]	= settr(128,0,20,225,0,"(((!(guardian)||server)||!(dump)))", 1, 2, 0);
	trans[2][16]	= settr(130,0,20,1,0,".(goto)", 0, 2, 0);
	/* end-escapes */
	trans[2][3]	= settr(117,2,4,226,226,"wire = 1", 1, 2, 0);
	trans[2][3]->escp[0] = 14;
	reached2[14] = 1;
	/* escape #0: 14 */
	/* end-escapes */
	trans[2][4]	= settr(118,0,20,227,227,"guardian = 0", 1, 2, 0);
	trans[2][4]->escp[0] = 14;
	reached2[14] = 1;
	/* escape #0: 14 */
	/* end-escapes */
	trans[2][13]	= settr(127,0,20,1,0,".(goto)", 0, 2, 0);
	T = trans[ 2][8] = settr(122,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(122,2,6,0,0,"ATOMIC", 1, 2, 0);
	trans[2][6]	= settr(120,2,7,228,0,"(((phase==2)||((phase==1)&&(wire==3))))", 1, 2, 0);
	trans[2][6]->escp[0] = 14;
	reached2[14] = 1;
	/* escape #0: 14 */
	/* end-escapes */
	trans[2][7]	= settr(121,0,20,229,229,"server = 1", 1, 2, 0);
	trans[2][7]->escp[0] = 14;
	reached2[14] = 1;
	/* escape #0: 14 */
	/* end-escapes */
	T = trans[ 2][11] = settr(125,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(125,2,9,0,0,"ATOMIC", 1, 2, 0);
	trans[2][9]	= settr(123,2,10,230,0,"((wire!=3))", 1, 2, 0);
	trans[2][9]->escp[0] = 14;
	reached2[14] = 1;
	/* escape #0: 14 */
	/* end-escapes */
	trans[2][10]	= settr(124,0,20,231,231,"guardian = 0", 1, 2, 0);
	trans[2][10]->escp[0] = 14;
	reached2[14] = 1;
	/* escape #0: 14 */
	/* end-escapes */
	T = trans[ 2][19] = settr(133,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(133,2,17,0,0,"ATOMIC", 1, 2, 0);
	trans[2][17]	= settr(131,0,20,232,232,"(((guardian&&!(dump))&&(journal!=11)))", 1, 2, 0); /* m: 18 -> 20,0 */
	reached2[18] = 1;
	trans[2][18]	= settr(0,0,0,0,0,"guardian = 0",0,0,0);
	trans[2][22]	= settr(136,0,23,1,0,"break", 0, 2, 0);
	trans[2][23]	= settr(137,0,0,233,233,"-end-", 0, 3500, 0);

	/* proctype 1: Page_server */

	trans[1] = (Trans **) emalloc(65*sizeof(Trans *));

	trans[1][62]	= settr(112,0,61,1,0,".(goto)", 0, 2, 0);
	T = trans[1][61] = settr(111,0,0,0,0,"DO", 0, 2, 0);
	    T->nxt	= settr(111,0,1,0,0,"DO", 0, 2, 0);
	trans[1][1]	= settr(51,0,55,234,0,"(server)", 1, 2, 0);
	trans[1][56]	= settr(106,0,55,1,0,".(goto)", 0, 2, 0);
	T = trans[1][55] = settr(105,0,0,0,0,"DO", 0, 2, 0);
	T = T->nxt	= settr(105,0,2,0,0,"DO", 0, 2, 0);
	T = T->nxt	= settr(105,0,20,0,0,"DO", 0, 2, 0);
	T = T->nxt	= settr(105,0,30,0,0,"DO", 0, 2, 0);
	T = T->nxt	= settr(105,0,46,0,0,"DO", 0, 2, 0);
	    T->nxt	= settr(105,0,53,0,0,"DO", 0, 2, 0);
	trans[1][2]	= settr(52,0,3,235,0,"(((op==3)&&(answer==3)))", 1, 2, 0);
	trans[1][2]->escp[0] = 58;
	reached1[58] = 1;
	/* escape #0: 58 */
	trans[1][58]	= settr(108,0,61,236,0,"(!(server))", 1, 2, 0);
	trans[1][60]	= settr(110,0,61,1,0,".(goto)", 0, 2, 0);
	/* end-escapes */
	trans[1][3]	= settr(53,0,4,237,237,"phase = 2", 1, 2, 0);
	trans[1][3]->escp[0] = 58;
	reached1[58] = 1;
	/* escape #0: 58 */
	/* end-escapes */
	trans[1][4]	= settr(54,0,18,238,238,"fenced = 1", 1, 2, 0);
	trans[1][4]->escp[0] = 58;
	reached1[58] = 1;
	/* escape #0: 58 */
	/* end-escapes */
	T = trans[1][18] = settr(68,0,0,0,0,"IF", 0, 2, 0);
	T = T->nxt	= settr(68,0,7,0,0,"IF", 0, 2, 0);
	    T->nxt	= settr(68,0,8,0,0,"IF", 0, 2, 0);
	T = trans[ 1][7] = settr(57,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(57,2,5,0,0,"ATOMIC", 1, 2, 0);
	trans[1][5]	= settr(55,2,6,239,0,"((dump&&(source==3)))", 1, 2, 0);
	trans[1][5]->escp[0] = 58;
	reached1[58] = 1;
	/* escape #0: 58 */
	/* end-escapes */
	trans[1][6]	= settr(56,0,55,240,240,"answer = 2", 1, 2, 0);
	trans[1][6]->escp[0] = 58;
	reached1[58] = 1;
	/* escape #0: 58 */
	/* end-escapes */
	trans[1][19]	= settr(69,0,55,1,0,".(goto)", 0, 2, 0);
	trans[1][8]	= settr(58,0,15,241,0,"((!(dump)||(source!=3)))", 1, 2, 0);
	trans[1][8]->escp[0] = 58;
	reached1[58] = 1;
	/* escape #0: 58 */
	/* end-escapes */
	T = trans[ 1][15] = settr(65,0,0,0,0,"sub-sequence", 0, 2, 0);
	T->nxt	= settr(65,0,9,0,0,"sub-sequence", 0, 2, 0);
	trans[1][9]	= settr(59,0,13,242,242,"fenced = 0", 1, 2, 0);
	trans[1][9]->escp[0] = 58;
	reached1[58] = 1;
	/* escape #0: 58 */
	/* end-escapes */
	T = trans[1][13] = settr(63,0,0,0,0,"IF", 0, 2, 0);
	T = T->nxt	= settr(63,0,10,0,0,"IF", 0, 2, 0);
	    T->nxt	= settr(63,0,12,0,0,"IF", 0, 2, 0);
	trans[1][10]	= settr(60,0,11,243,0,"((source==2))", 1, 2, 0);
	trans[1][10]->escp[0] = 58;
	reached1[58] = 1;
	/* escape #0: 58 */
	/* end-escapes */
	trans[1][11]	= settr(61,0,16,244,244,"source = 4", 1, 2, 0);
	trans[1][11]->escp[0] = 58;
	reached1[58] = 1;
	/* escape #0: 58 */
	/* end-escapes */
	trans[1][14]	= settr(64,0,16,1,0,".(goto)", 0, 2, 0);
	trans[1][12]	= settr(62,0,16,2,0,"else", 0, 2, 0);
	trans[1][12]->escp[0] = 58;
	reached1[58] = 1;
	/* escape #0: 58 */
	/* end-escapes */
	trans[1][16]	= settr(66,0,17,245,245,"phase = 3", 1, 2, 0);
	trans[1][16]->escp[0] = 58;
	reached1[58] = 1;
	/* escape #0: 58 */
	/* end-escapes */
	trans[1][17]	= settr(67,0,55,246,246,"answer = 1", 1, 2, 0);
	trans[1][17]->escp[0] = 58;
	reached1[58] = 1;
	/* escape #0: 58 */
	/* end-escapes */
	trans[1][20]	= settr(70,0,28,247,0,"(((op==2)&&(answer==3)))", 1, 2, 0);
	trans[1][20]->escp[0] = 58;
	reached1[58] = 1;
	/* escape #0: 58 */
	/* end-escapes */
	T = trans[1][28] = settr(78,0,0,0,0,"IF", 0, 2, 0);
	T = T->nxt	= settr(78,0,21,0,0,"IF", 0, 2, 0);
	    T->nxt	= settr(78,0,23,0,0,"IF", 0, 2, 0);
	trans[1][21]	= settr(71,0,22,248,0,"(!(drained))", 1, 2, 0);
	trans[1][21]->escp[0] = 58;
	reached1[58] = 1;
	/* escape #0: 58 */
	/* end-escapes */
	trans[1][22]	= settr(72,0,55,249,249,"answer = 1", 1, 2, 0);
	trans[1][22]->escp[0] = 58;
	reached1[58] = 1;
	/* escape #0: 58 */
	/* end-escapes */
	trans[1][29]	= settr(79,0,55,1,0,".(goto)", 0, 2, 0);
	trans[1][23]	= settr(73,0,24,250,0,"(drained)", 1, 2, 0);
	trans[1][23]->escp[0] = 58;
	reached1[58] = 1;
	/* escape #0: 58 */
	/* end-escapes */
	trans[1][24]	= settr(74,0,25,251,251,"phase = 1", 1, 2, 0);
	trans[1][24]->escp[0] = 58;
	reached1[58] = 1;
	/* escape #0: 58 */
	/* end-escapes */
	trans[1][25]	= settr(75,0,26,252,252,"wire = 2", 1, 2, 0);
	trans[1][25]->escp[0] = 58;
	reached1[58] = 1;
	/* escape #0: 58 */
	/* end-escapes */
	trans[1][26]	= settr(76,0,27,253,0,"(!(dump))", 1, 2, 0);
	trans[1][26]->escp[0] = 58;
	reached1[58] = 1;
	/* escape #0: 58 */
	/* end-escapes */
	trans[1][27]	= settr(77,0,55,254,254,"answer = 2", 1, 2, 0);
	trans[1][27]->escp[0] = 58;
	reached1[58] = 1;
	/* escape #0: 58 */
	/* end-escapes */
	trans[1][30]	= settr(80,0,37,255,0,"(((op==1)&&(answer==3)))", 1, 2, 0);
	trans[1][30]->escp[0] = 58;
	reached1[58] = 1;
	/* escape #0: 58 */
	/* end-escapes */
	T = trans[ 1][37] = settr(87,0,0,0,0,"sub-sequence", 0, 2, 0);
	T->nxt	= settr(87,0,31,0,0,"sub-sequence", 0, 2, 0);
	trans[1][31]	= settr(81,0,35,256,256,"fenced = 0", 1, 2, 0);
	trans[1][31]->escp[0] = 58;
	reached1[58] = 1;
	/* escape #0: 58 */
	/* end-escapes */
	T = trans[1][35] = settr(85,0,0,0,0,"IF", 0, 2, 0);
	T = T->nxt	= settr(85,0,32,0,0,"IF", 0, 2, 0);
	    T->nxt	= settr(85,0,34,0,0,"IF", 0, 2, 0);
	trans[1][32]	= settr(82,0,33,257,0,"((source==2))", 1, 2, 0);
	trans[1][32]->escp[0] = 58;
	reached1[58] = 1;
	/* escape #0: 58 */
	/* end-escapes */
	trans[1][33]	= settr(83,0,38,258,258,"source = 4", 1, 2, 0);
	trans[1][33]->escp[0] = 58;
	reached1[58] = 1;
	/* escape #0: 58 */
	/* end-escapes */
	trans[1][36]	= settr(86,0,38,1,0,".(goto)", 0, 2, 0);
	trans[1][34]	= settr(84,0,38,2,0,"else", 0, 2, 0);
	trans[1][34]->escp[0] = 58;
	reached1[58] = 1;
	/* escape #0: 58 */
	/* end-escapes */
	trans[1][38]	= settr(88,0,42,259,259,"phase = 3", 1, 2, 0);
	trans[1][38]->escp[0] = 58;
	reached1[58] = 1;
	/* escape #0: 58 */
	/* end-escapes */
	T = trans[1][42] = settr(92,0,0,0,0,"IF", 0, 2, 0);
	T = T->nxt	= settr(92,0,39,0,0,"IF", 0, 2, 0);
	    T->nxt	= settr(92,0,41,0,0,"IF", 0, 2, 0);
	trans[1][39]	= settr(89,0,40,260,0,"((wire==3))", 1, 2, 0);
	trans[1][39]->escp[0] = 58;
	reached1[58] = 1;
	/* escape #0: 58 */
	/* end-escapes */
	trans[1][40]	= settr(90,0,44,261,261,"wire = 1", 1, 2, 0);
	trans[1][40]->escp[0] = 58;
	reached1[58] = 1;
	/* escape #0: 58 */
	/* end-escapes */
	trans[1][43]	= settr(93,0,44,1,0,".(goto)", 0, 2, 0);
	trans[1][41]	= settr(91,0,44,2,0,"else", 0, 2, 0);
	trans[1][41]->escp[0] = 58;
	reached1[58] = 1;
	/* escape #0: 58 */
	/* end-escapes */
	trans[1][44]	= settr(94,0,45,262,0,"(!(dump))", 1, 2, 0);
	trans[1][44]->escp[0] = 58;
	reached1[58] = 1;
	/* escape #0: 58 */
	/* end-escapes */
	trans[1][45]	= settr(95,0,55,263,263,"answer = 2", 1, 2, 0);
	trans[1][45]->escp[0] = 58;
	reached1[58] = 1;
	/* escape #0: 58 */
	/* end-escapes */
	trans[1][46]	= settr(96,0,51,264,0,"((((!(lifeline)&&(phase==3))&&dump)&&(wire==3)))", 1, 2, 0);
	trans[1][46]->escp[0] = 58;
	reached1[58] = 1;
	/* escape #0: 58 */
	/* end-escapes */
	T = trans[1][51] = settr(101,0,0,0,0,"IF", 0, 2, 0);
	T = T->nxt	= settr(101,0,49,0,0,"IF", 0, 2, 0);
	    T->nxt	= settr(101,0,50,0,0,"IF", 0, 2, 0);
	T = trans[ 1][49] = settr(99,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(99,2,47,0,0,"ATOMIC", 1, 2, 0);
	trans[1][47]	= settr(97,2,48,265,0,"((phase==3))", 1, 2, 0);
	trans[1][47]->escp[0] = 58;
	reached1[58] = 1;
	/* escape #0: 58 */
	/* end-escapes */
	trans[1][48]	= settr(98,0,55,266,266,"wire = 1", 1, 2, 0);
	trans[1][48]->escp[0] = 58;
	reached1[58] = 1;
	/* escape #0: 58 */
	/* end-escapes */
	trans[1][52]	= settr(102,0,55,1,0,".(goto)", 0, 2, 0);
	trans[1][50]	= settr(100,0,55,2,0,"else", 0, 2, 0);
	trans[1][50]->escp[0] = 58;
	reached1[58] = 1;
	/* escape #0: 58 */
	/* end-escapes */
	trans[1][53]	= settr(103,0,54,267,0,"((((!(dump)&&(journal!=11))&&(journal!=10))&&(op==4)))", 1, 2, 0);
	trans[1][53]->escp[0] = 58;
	reached1[58] = 1;
	/* escape #0: 58 */
	/* end-escapes */
	trans[1][54]	= settr(104,0,55,268,268,"server = 0", 1, 2, 0);
	trans[1][54]->escp[0] = 58;
	reached1[58] = 1;
	/* escape #0: 58 */
	/* end-escapes */
	trans[1][57]	= settr(107,0,61,1,0,"break", 0, 2, 0);
	trans[1][57]->escp[0] = 58;
	reached1[58] = 1;
	/* escape #0: 58 */
	/* end-escapes */
	trans[1][63]	= settr(113,0,64,1,0,"break", 0, 2, 0);
	trans[1][64]	= settr(114,0,0,269,269,"-end-", 0, 3500, 0);

	/* proctype 0: Dump */

	trans[0] = (Trans **) emalloc(52*sizeof(Trans *));

	trans[0][49]	= settr(48,0,48,1,0,".(goto)", 0, 2, 0);
	T = trans[0][48] = settr(47,0,0,0,0,"DO", 0, 2, 0);
	T = T->nxt	= settr(47,0,4,0,0,"DO", 0, 2, 0);
	T = T->nxt	= settr(47,0,15,0,0,"DO", 0, 2, 0);
	T = T->nxt	= settr(47,0,26,0,0,"DO", 0, 2, 0);
	T = T->nxt	= settr(47,0,37,0,0,"DO", 0, 2, 0);
	    T->nxt	= settr(47,0,47,0,0,"DO", 0, 2, 0);
	T = trans[ 0][4] = settr(3,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(3,2,1,0,0,"ATOMIC", 1, 2, 0);
	trans[0][1]	= settr(0,0,48,270,270,"((dump&&(wire==2)))", 1, 2, 0); /* m: 2 -> 48,0 */
	reached0[2] = 1;
	trans[0][2]	= settr(0,0,0,0,0,"dump = 0",0,0,0);
	trans[0][3]	= settr(0,0,0,0,0,"source = 1",0,0,0);
	T = trans[ 0][15] = settr(14,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(14,2,5,0,0,"ATOMIC", 1, 2, 0);
	trans[0][5]	= settr(4,2,14,271,271,"((dump&&(wire==2)))", 1, 2, 0); /* m: 6 -> 14,0 */
	reached0[6] = 1;
	trans[0][6]	= settr(0,0,0,0,0,"dump = 0",0,0,0);
	T = trans[ 0][14] = settr(13,0,0,0,0,"sub-sequence", 1, 2, 0);
	T->nxt	= settr(13,0,12,0,0,"sub-sequence", 1, 2, 0);
	T = trans[0][12] = settr(11,2,0,0,0,"IF", 1, 2, 0);
	T = T->nxt	= settr(11,2,7,0,0,"IF", 1, 2, 0);
	T = T->nxt	= settr(11,2,9,0,0,"IF", 1, 2, 0);
	    T->nxt	= settr(11,2,11,0,0,"IF", 1, 2, 0);
	trans[0][7]	= settr(6,0,48,272,272,"(((source==3)&&fenced))", 1, 2, 0); /* m: 8 -> 48,0 */
	reached0[8] = 1;
	trans[0][8]	= settr(0,0,0,0,0,"source = 2",0,0,0);
	trans[0][13]	= settr(12,0,48,273,273,".(goto)", 1, 2, 0);
	trans[0][9]	= settr(8,0,48,274,274,"(((source==3)&&!(fenced)))", 1, 2, 0); /* m: 10 -> 48,0 */
	reached0[10] = 1;
	trans[0][10]	= settr(0,0,0,0,0,"source = 4",0,0,0);
	trans[0][11]	= settr(10,2,13,2,0,"else", 1, 2, 0);
	T = trans[ 0][26] = settr(25,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(25,2,16,0,0,"ATOMIC", 1, 2, 0);
	trans[0][16]	= settr(15,2,25,275,275,"((dump&&(wire==1)))", 1, 2, 0); /* m: 17 -> 25,0 */
	reached0[17] = 1;
	trans[0][17]	= settr(0,0,0,0,0,"dump = 0",0,0,0);
	T = trans[ 0][25] = settr(24,0,0,0,0,"sub-sequence", 1, 2, 0);
	T->nxt	= settr(24,0,23,0,0,"sub-sequence", 1, 2, 0);
	T = trans[0][23] = settr(22,2,0,0,0,"IF", 1, 2, 0);
	T = T->nxt	= settr(22,2,18,0,0,"IF", 1, 2, 0);
	T = T->nxt	= settr(22,2,20,0,0,"IF", 1, 2, 0);
	    T->nxt	= settr(22,2,22,0,0,"IF", 1, 2, 0);
	trans[0][18]	= settr(17,0,48,276,276,"(((source==3)&&fenced))", 1, 2, 0); /* m: 19 -> 48,0 */
	reached0[19] = 1;
	trans[0][19]	= settr(0,0,0,0,0,"source = 2",0,0,0);
	trans[0][24]	= settr(23,0,48,277,277,".(goto)", 1, 2, 0);
	trans[0][20]	= settr(19,0,48,278,278,"(((source==3)&&!(fenced)))", 1, 2, 0); /* m: 21 -> 48,0 */
	reached0[21] = 1;
	trans[0][21]	= settr(0,0,0,0,0,"source = 4",0,0,0);
	trans[0][22]	= settr(21,2,24,2,0,"else", 1, 2, 0);
	T = trans[ 0][37] = settr(36,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(36,2,27,0,0,"ATOMIC", 1, 2, 0);
	trans[0][27]	= settr(26,2,36,279,279,"((((dump&&(wire==3))&&!(server))&&!(guardian)))", 1, 2, 0); /* m: 28 -> 36,0 */
	reached0[28] = 1;
	trans[0][28]	= settr(0,0,0,0,0,"dump = 0",0,0,0);
	T = trans[ 0][36] = settr(35,0,0,0,0,"sub-sequence", 1, 2, 0);
	T->nxt	= settr(35,0,34,0,0,"sub-sequence", 1, 2, 0);
	T = trans[0][34] = settr(33,2,0,0,0,"IF", 1, 2, 0);
	T = T->nxt	= settr(33,2,29,0,0,"IF", 1, 2, 0);
	T = T->nxt	= settr(33,2,31,0,0,"IF", 1, 2, 0);
	    T->nxt	= settr(33,2,33,0,0,"IF", 1, 2, 0);
	trans[0][29]	= settr(28,0,48,280,280,"(((source==3)&&fenced))", 1, 2, 0); /* m: 30 -> 48,0 */
	reached0[30] = 1;
	trans[0][30]	= settr(0,0,0,0,0,"source = 2",0,0,0);
	trans[0][35]	= settr(34,0,48,281,281,".(goto)", 1, 2, 0);
	trans[0][31]	= settr(30,0,48,282,282,"(((source==3)&&!(fenced)))", 1, 2, 0); /* m: 32 -> 48,0 */
	reached0[32] = 1;
	trans[0][32]	= settr(0,0,0,0,0,"source = 4",0,0,0);
	trans[0][33]	= settr(32,2,35,2,0,"else", 1, 2, 0);
	T = trans[ 0][47] = settr(46,2,0,0,0,"ATOMIC", 1, 2, 0);
	T->nxt	= settr(46,2,38,0,0,"ATOMIC", 1, 2, 0);
	trans[0][38]	= settr(37,2,46,283,0,"((!(dump)&&(source==3)))", 1, 2, 0);
	T = trans[ 0][46] = settr(45,0,0,0,0,"sub-sequence", 1, 2, 0);
	T->nxt	= settr(45,0,44,0,0,"sub-sequence", 1, 2, 0);
	T = trans[0][44] = settr(43,2,0,0,0,"IF", 1, 2, 0);
	T = T->nxt	= settr(43,2,39,0,0,"IF", 1, 2, 0);
	T = T->nxt	= settr(43,2,41,0,0,"IF", 1, 2, 0);
	    T->nxt	= settr(43,2,43,0,0,"IF", 1, 2, 0);
	trans[0][39]	= settr(38,0,48,284,284,"(((source==3)&&fenced))", 1, 2, 0); /* m: 40 -> 48,0 */
	reached0[40] = 1;
	trans[0][40]	= settr(0,0,0,0,0,"source = 2",0,0,0);
	trans[0][45]	= settr(44,0,48,285,285,".(goto)", 1, 2, 0);
	trans[0][41]	= settr(40,0,48,286,286,"(((source==3)&&!(fenced)))", 1, 2, 0); /* m: 42 -> 48,0 */
	reached0[42] = 1;
	trans[0][42]	= settr(0,0,0,0,0,"source = 4",0,0,0);
	trans[0][43]	= settr(42,2,45,2,0,"else", 1, 2, 0);
	trans[0][50]	= settr(49,0,51,1,0,"break", 0, 2, 0);
	trans[0][51]	= settr(50,0,0,287,287,"-end-", 0, 3500, 0);
	/* np_ demon: */
	trans[_NP_] = (Trans **) emalloc(3*sizeof(Trans *));
	T = trans[_NP_][0] = settr(9997,0,1,_T5,0,"(np_)", 1,2,0);
	    T->nxt	  = settr(9998,0,0,_T2,0,"(1)",   0,2,0);
	T = trans[_NP_][1] = settr(9999,0,1,_T5,0,"(np_)", 1,2,0);
}

Trans *
settr(	int t_id, int a, int b, int c, int d,
	char *t, int g, int tpe0, int tpe1)
{	Trans *tmp = (Trans *) emalloc(sizeof(Trans));

	tmp->atom  = a&(6|32);	/* only (2|8|32) have meaning */
	if (!g) tmp->atom |= 8;	/* no global references */
	tmp->st    = b;
	tmp->tpe[0] = tpe0;
	tmp->tpe[1] = tpe1;
	tmp->tp    = t;
	tmp->t_id  = t_id;
	tmp->forw  = c;
	tmp->back  = d;
	return tmp;
}

Trans *
cpytr(Trans *a)
{	Trans *tmp = (Trans *) emalloc(sizeof(Trans));

	int i;
	tmp->atom  = a->atom;
	tmp->st    = a->st;
#ifdef HAS_UNLESS
	tmp->e_trans = a->e_trans;
	for (i = 0; i < HAS_UNLESS; i++)
		tmp->escp[i] = a->escp[i];
#endif
	tmp->tpe[0] = a->tpe[0];
	tmp->tpe[1] = a->tpe[1];
	for (i = 0; i < 6; i++)
	{	tmp->qu[i] = a->qu[i];
		tmp->ty[i] = a->ty[i];
	}
	tmp->tp    = (char *) emalloc(strlen(a->tp)+1);
	strcpy(tmp->tp, a->tp);
	tmp->t_id  = a->t_id;
	tmp->forw  = a->forw;
	tmp->back  = a->back;
	return tmp;
}

#ifndef NOREDUCE
int
srinc_set(int n)
{	if (n <= 2) return LOCAL;
	if (n <= 2+  DELTA) return Q_FULL_F; /* 's' or nfull  */
	if (n <= 2+2*DELTA) return Q_EMPT_F; /* 'r' or nempty */
	if (n <= 2+3*DELTA) return Q_EMPT_T; /* empty */
	if (n <= 2+4*DELTA) return Q_FULL_T; /* full  */
	if (n ==   5*DELTA) return GLOBAL;
	if (n ==   6*DELTA) return TIMEOUT_F;
	if (n ==   7*DELTA) return ALPHA_F;
	Uerror("cannot happen srinc_class");
	return BAD;
}
int
srunc(int n, int m)
{	switch(m) {
	case Q_FULL_F: return n-2;
	case Q_EMPT_F: return n-2-DELTA;
	case Q_EMPT_T: return n-2-2*DELTA;
	case Q_FULL_T: return n-2-3*DELTA;
	case ALPHA_F:
	case TIMEOUT_F: return 257; /* non-zero, and > MAXQ */
	}
	Uerror("cannot happen srunc");
	return 0;
}
#endif
int cnt;
#ifdef HAS_UNLESS
int
isthere(Trans *a, int b)
{	Trans *t;
	for (t = a; t; t = t->nxt)
		if (t->t_id == b)
			return 1;
	return 0;
}
#endif
#ifndef NOREDUCE
int
mark_safety(Trans *t) /* for conditional safety */
{	int g = 0, i, j, k;

	if (!t) return 0;
	if (t->qu[0])
		return (t->qu[1])?2:1;	/* marked */

	for (i = 0; i < 2; i++)
	{	j = srinc_set(t->tpe[i]);
		if (j >= GLOBAL && j != ALPHA_F)
			return -1;
		if (j != LOCAL)
		{	k = srunc(t->tpe[i], j);
			if (g == 0
			||  t->qu[0] != k
			||  t->ty[0] != j)
			{	t->qu[g] = k;
				t->ty[g] = j;
				g++;
	}	}	}
	return g;
}
#endif
void
retrans(int n, int m, int is, short srcln[], uchar reach[], uchar lpstate[])
	/* process n, with m states, is=initial state */
{	Trans *T0, *T1, *T2, *T3;
	Trans *T4, *T5; /* t_reverse or has_unless */
	int i;
#if defined(HAS_UNLESS) || !defined(NOREDUCE)
	int k;
#endif
#ifndef NOREDUCE
	int g, h, j, aa;
#endif
#ifdef HAS_UNLESS
	int p;
#endif
	if (state_tables >= 4)
	{	printf("STEP 1 %s\n", 
			procname[n]);
		for (i = 1; i < m; i++)
		for (T0 = trans[n][i]; T0; T0 = T0->nxt)
			crack(n, i, T0, srcln);
		return;
	}
	do {
		for (i = 1, cnt = 0; i < m; i++)
		{	T2 = trans[n][i];
			T1 = T2?T2->nxt:(Trans *)0;
/* prescan: */		for (T0 = T1; T0; T0 = T0->nxt)
/* choice in choice */	{	if (T0->st && trans[n][T0->st]
				&&  trans[n][T0->st]->nxt)
					break;
			}
#if 0
		if (T0)
		printf("\tstate %d / %d: choice in choice\n",
		i, T0->st);
#endif
			if (T0)
			for (T0 = T1; T0; T0 = T0->nxt)
			{	T3 = trans[n][T0->st];
				if (!T3->nxt)
				{	T2->nxt = cpytr(T0);
					T2 = T2->nxt;
					imed(T2, T0->st, n, i);
					continue;
				}
				do {	T3 = T3->nxt;
					T2->nxt = cpytr(T3);
					T2 = T2->nxt;
					imed(T2, T0->st, n, i);
				} while (T3->nxt);
				cnt++;
			}
		}
	} while (cnt);
	if (state_tables >= 3)
	{	printf("STEP 2 %s\n", 
			procname[n]);
		for (i = 1; i < m; i++)
		for (T0 = trans[n][i]; T0; T0 = T0->nxt)
			crack(n, i, T0, srcln);
		return;
	}
	for (i = 1; i < m; i++)
	{	if (trans[n][i] && trans[n][i]->nxt) /* optimize */
		{	T1 = trans[n][i]->nxt;
#if 0
			printf("\t\tpull %d (%d) to %d\n",
			T1->st, T1->forw, i);
#endif
			srcln[i] = srcln[T1->st];	/* Oyvind Teig, 5.2.0 */

			if (!trans[n][T1->st]) continue;
			T0 = cpytr(trans[n][T1->st]);
			trans[n][i] = T0;
			reach[T1->st] = 1;
			imed(T0, T1->st, n, i);
			for (T1 = T1->nxt; T1; T1 = T1->nxt)
			{
#if 0
			printf("\t\tpull %d (%d) to %d\n",
				T1->st, T1->forw, i);
#endif
		/*		srcln[i] = srcln[T1->st];  gh: not useful */
				if (!trans[n][T1->st]) continue;
				T0->nxt = cpytr(trans[n][T1->st]);
				T0 = T0->nxt;
				reach[T1->st] = 1;
				imed(T0, T1->st, n, i);
	}	}	}
	if (state_tables >= 2)
	{	printf("STEP 3 %s\n", 
			procname[n]);
		for (i = 1; i < m; i++)
		for (T0 = trans[n][i]; T0; T0 = T0->nxt)
			crack(n, i, T0, srcln);
		return;
	}
#ifdef HAS_UNLESS
	for (i = 1; i < m; i++)
	{	if (!trans[n][i]) continue;
		/* check for each state i if an
		 * escape to some state p is defined
		 * if so, copy and mark p's transitions
		 * and prepend them to the transition-
		 * list of state i
		 */
	 if (!like_java) /* the default */
	 {	for (T0 = trans[n][i]; T0; T0 = T0->nxt)
		for (k = HAS_UNLESS-1; k >= 0; k--)
		{	if (p = T0->escp[k])
			for (T1 = trans[n][p]; T1; T1 = T1->nxt)
			{	if (isthere(trans[n][i], T1->t_id))
					continue;
				T2 = cpytr(T1);
				T2->e_trans = p;
				T2->nxt = trans[n][i];
				trans[n][i] = T2;
		}	}
	 } else /* outermost unless checked first */
	 {	T4 = T3 = (Trans *) 0;
		for (T0 = trans[n][i]; T0; T0 = T0->nxt)
		for (k = HAS_UNLESS-1; k >= 0; k--)
		{	if (p = T0->escp[k])
			for (T1 = trans[n][p]; T1; T1 = T1->nxt)
			{	if (isthere(trans[n][i], T1->t_id))
					continue;
				T2 = cpytr(T1);
				T2->nxt = (Trans *) 0;
				T2->e_trans = p;
				if (T3)	T3->nxt = T2;
				else	T4 = T2;
				T3 = T2;
		}	}
		if (T4)
		{	T3->nxt = trans[n][i];
			trans[n][i] = T4;
		}
	 }
	}
#endif
#ifndef NOREDUCE
	for (i = 1; i < m; i++)
	{	if (a_cycles)
		{ /* moves through these states are visible */
	#if PROG_LAB>0 && defined(HAS_NP)
			if (progstate[n][i])
				goto degrade;
			for (T1 = trans[n][i]; T1; T1 = T1->nxt)
				if (progstate[n][T1->st])
					goto degrade;
	#endif
			if (accpstate[n][i] || visstate[n][i])
				goto degrade;
			for (T1 = trans[n][i]; T1; T1 = T1->nxt)
				if (accpstate[n][T1->st])
					goto degrade;
		}
		T1 = trans[n][i];
		if (!T1) continue;
		g = mark_safety(T1);	/* V3.3.1 */
		if (g < 0) goto degrade; /* global */
		/* check if mixing of guards preserves reduction */
		if (T1->nxt)
		{	k = 0;
			for (T0 = T1; T0; T0 = T0->nxt)
			{	if (!(T0->atom&8))
					goto degrade;
				for (aa = 0; aa < 2; aa++)
				{	j = srinc_set(T0->tpe[aa]);
					if (j >= GLOBAL && j != ALPHA_F)
						goto degrade;
					if (T0->tpe[aa]
					&&  T0->tpe[aa]
					!=  T1->tpe[0])
						k = 1;
			}	}
			/* g = 0;	V3.3.1 */
			if (k)	/* non-uniform selection */
			for (T0 = T1; T0; T0 = T0->nxt)
			for (aa = 0; aa < 2; aa++)
			{	j = srinc_set(T0->tpe[aa]);
				if (j != LOCAL)
				{	k = srunc(T0->tpe[aa], j);
					for (h = 0; h < 6; h++)
						if (T1->qu[h] == k
						&&  T1->ty[h] == j)
							break;
					if (h >= 6)
					{	T1->qu[g%6] = k;
						T1->ty[g%6] = j;
						g++;
			}	}	}
			if (g > 6)
			{	T1->qu[0] = 0;	/* turn it off */
				printf("pan: warning, line %d, ",
					srcln[i]);
			 	printf("too many stmnt types (%d)",
					g);
			  	printf(" in selection\n");
			  goto degrade;
			}
		}
		/* mark all options global if >=1 is global */
		for (T1 = trans[n][i]; T1; T1 = T1->nxt)
			if (!(T1->atom&8)) break;
		if (T1)
degrade:	for (T1 = trans[n][i]; T1; T1 = T1->nxt)
			T1->atom &= ~8;	/* mark as unsafe */
		/* can only mix 'r's or 's's if on same chan */
		/* and not mixed with other local operations */
		T1 = trans[n][i];
		if (!T1 || T1->qu[0]) continue;
		j = T1->tpe[0];
		if (T1->nxt && T1->atom&8)
		{ if (j == 5*DELTA)
		  {	printf("warning: line %d ", srcln[i]);
			printf("mixed condition ");
			printf("(defeats reduction)\n");
			goto degrade;
		  }
		  for (T0 = T1; T0; T0 = T0->nxt)
		  for (aa = 0; aa < 2; aa++)
		  if  (T0->tpe[aa] && T0->tpe[aa] != j)
		  {	printf("warning: line %d ", srcln[i]);
			printf("[%d-%d] mixed %stion ",
				T0->tpe[aa], j, 
				(j==5*DELTA)?"condi":"selec");
			printf("(defeats reduction)\n");
			printf("	'%s' <-> '%s'\n",
				T1->tp, T0->tp);
			goto degrade;
		} }
	}
#endif
	for (i = 1; i < m; i++)
	{	T2 = trans[n][i];
		if (!T2
		||  T2->nxt
		||  strncmp(T2->tp, ".(goto)", 7)
		||  !stopstate[n][i])
			continue;
		stopstate[n][T2->st] = 1;
	}
	if (state_tables && !verbose)
	{	if (dodot)
		{	char buf[256], *q = buf, *p = procname[n];
			while (*p != '\0')
			{	if (*p != ':')
				{	*q++ = *p;
				}
				p++;
			}
			*q = '\0';
			printf("digraph ");
			switch (Btypes[n]) {
			case I_PROC:  printf("init {\n"); break;
			case N_CLAIM: printf("claim_%s {\n", buf); break;
			case E_TRACE: printf("notrace {\n"); break;
			case N_TRACE: printf("trace {\n"); break;
			default:      printf("p_%s {\n", buf); break;
			}
			printf("size=\"8,10\";\n");
			printf("  GT [shape=box,style=dotted,label=\"%s\"];\n", buf);
			printf("  GT -> S%d;\n", is);
		} else
		{	switch (Btypes[n]) {
			case I_PROC:  printf("init\n"); break;
			case N_CLAIM: printf("claim %s\n", procname[n]); break;
			case E_TRACE: printf("notrace assertion\n"); break;
			case N_TRACE: printf("trace assertion\n"); break;
			default:      printf("proctype %s\n", procname[n]); break;
		}	}
		for (i = 1; i < m; i++)
		{	reach[i] = 1;
		}
		tagtable(n, m, is, srcln, reach);
		if (dodot) printf("}\n");
	} else
	for (i = 1; i < m; i++)
	{	int nrelse;
		if (Btypes[n] != N_CLAIM)
		{	for (T0 = trans[n][i]; T0; T0 = T0->nxt)
			{	if (T0->st == i
				&& strcmp(T0->tp, "(1)") == 0)
				{	printf("error: proctype '%s' ",
						procname[n]);
		  			printf("line %d, state %d: has un",
						srcln[i], i);
					printf("conditional self-loop\n");
					pan_exit(1);
		}	}	}
		nrelse = 0;
		for (T0 = trans[n][i]; T0; T0 = T0->nxt)
		{	if (strcmp(T0->tp, "else") == 0)
				nrelse++;
		}
		if (nrelse > 1)
		{	printf("error: proctype '%s' state",
				procname[n]);
		  	printf(" %d, inherits %d", i, nrelse);
		  	printf(" 'else' stmnts\n");
			pan_exit(1);
	}	}
#if !defined(LOOPSTATE) && !defined(BFS_PAR)
	if (state_tables)
#endif
	do_dfs(n, m, is, srcln, reach, lpstate);

	if (!t_reverse)
	{	return;
	}
	/* process n, with m states, is=initial state -- reverse list */
	if (!state_tables && Btypes[n] != N_CLAIM)
	{	for (i = 1; i < m; i++)
		{	Trans *Tx = (Trans *) 0; /* list of escapes */
			Trans *Ty = (Trans *) 0; /* its tail element */
			T1 = (Trans *) 0; /* reversed list */
			T2 = (Trans *) 0; /* its tail */
			T3 = (Trans *) 0; /* remembers possible 'else' */

			/* find unless-escapes, they should go first */
			T4 = T5 = T0 = trans[n][i];
	#ifdef HAS_UNLESS
			while (T4 && T4->e_trans) /* escapes are first in orig list */
			{	T5 = T4;	  /* remember predecessor */
				T4 = T4->nxt;
			}
	#endif
			/* T4 points to first non-escape, T5 to its parent, T0 to original list */
			if (T4 != T0)		 /* there was at least one escape */
			{	T3 = T5->nxt;		 /* start of non-escapes */
				T5->nxt = (Trans *) 0;	 /* separate */
				Tx = T0;		 /* start of the escapes */
				Ty = T5;		 /* its tail */
				T0 = T3;		 /* the rest, to be reversed */
			}
			/* T0 points to first non-escape, Tx to the list of escapes, Ty to its tail */

			/* first tail-add non-escape transitions, reversed */
			T3 = (Trans *) 0;
			for (T5 = T0; T5; T5 = T4)
			{	T4 = T5->nxt;
	#ifdef HAS_UNLESS
				if (T5->e_trans)
				{	printf("error: cannot happen!\n");
					continue;
				}
	#endif
				if (strcmp(T5->tp, "else") == 0)
				{	T3 = T5;
					T5->nxt = (Trans *) 0;
				} else
				{	T5->nxt = T1;
					if (!T1) { T2 = T5; }
					T1 = T5;
			}	}
			/* T3 points to a possible else, which is removed from the list */
			/* T1 points to the reversed list so far (without escapes) */
			/* T2 points to the tail element -- where the else should go */
			if (T2 && T3)
			{	T2->nxt = T3;	/* add else */
			} else
			{	if (T3) /* there was an else, but there's no tail */
				{	if (!T1)	/* and no reversed list */
					{	T1 = T3; /* odd, but possible */
					} else		/* even stranger */
					{	T1->nxt = T3;
			}	}	}

			/* add in the escapes, to that they appear at the front */
			if (Tx && Ty) { Ty->nxt = T1; T1 = Tx; }

			trans[n][i] = T1;
			/* reversed, with escapes first and else last */
	}	}
	if (state_tables && verbose)
	{	printf("FINAL proctype %s\n", 
			procname[n]);
		for (i = 1; i < m; i++)
		for (T0 = trans[n][i]; T0; T0 = T0->nxt)
			crack(n, i, T0, srcln);
	}
}
void
imed(Trans *T, int v, int n, int j)	/* set intermediate state */
{	progstate[n][T->st] |= progstate[n][v];
	accpstate[n][T->st] |= accpstate[n][v];
	stopstate[n][T->st] |= stopstate[n][v];
	mapstate[n][j] = T->st;
}
void
tagtable(int n, int m, int is, short srcln[], uchar reach[])
{	Trans *z;

	if (is >= m || !trans[n][is]
	||  is <= 0 || reach[is] == 0)
		return;
	reach[is] = 0;
	if (state_tables)
	for (z = trans[n][is]; z; z = z->nxt)
	{	if (dodot)
			dot_crack(n, is, z);
		else
			crack(n, is, z, srcln);
	}

	for (z = trans[n][is]; z; z = z->nxt)
	{
#ifdef HAS_UNLESS
		int i, j;
#endif
		tagtable(n, m, z->st, srcln, reach);
#ifdef HAS_UNLESS
		for (i = 0; i < HAS_UNLESS; i++)
		{	j = trans[n][is]->escp[i];
			if (!j) break;
			tagtable(n, m, j, srcln, reach);
		}
#endif
	}
}

extern Trans *t_id_lkup[];

void
dfs_table(int n, int m, int is, short srcln[], uchar reach[], uchar lpstate[])
{	Trans *z;

	if (is >= m || is <= 0 || !trans[n][is])
		return;
	if ((reach[is] & (4|8|16)) != 0)
	{	if ((reach[is] & (8|16)) == 16)	/* on stack, not yet recorded */
		{	lpstate[is] = 1;
			reach[is] |= 8; /* recorded */
			if (state_tables && verbose)
			{	printf("state %d line %d is a loopstate\n", is, srcln[is]);
		}	}
		return;
	}
	reach[is] |= (4|16);	/* visited | onstack */
	for (z = trans[n][is]; z; z = z->nxt)
	{	t_id_lkup[z->t_id] = z;
#ifdef HAS_UNLESS
		int i, j;
#endif
		dfs_table(n, m, z->st, srcln, reach, lpstate);
#ifdef HAS_UNLESS
		for (i = 0; i < HAS_UNLESS; i++)
		{	j = trans[n][is]->escp[i];
			if (!j) break;
			dfs_table(n, m, j, srcln, reach, lpstate);
		}
#endif
	}
	reach[is] &= ~16; /* no longer on stack */
}
void
do_dfs(int n, int m, int is, short srcln[], uchar reach[], uchar lpstate[])
{	int i;
	dfs_table(n, m, is, srcln, reach, lpstate);
	for (i = 0; i < m; i++)
		reach[i] &= ~(4|8|16);
}
void
crack(int n, int j, Trans *z, short srcln[])
{	int i;

	if (!z) return;
	printf("	state %3d -(tr %3d)-> state %3d  ",
		j, z->forw, z->st);
	printf("[id %3d tp %3d", z->t_id, z->tpe[0]);
	if (z->tpe[1]) printf(",%d", z->tpe[1]);
#ifdef HAS_UNLESS
	if (z->e_trans)
		printf(" org %3d", z->e_trans);
	else if (state_tables >= 2)
	for (i = 0; i < HAS_UNLESS; i++)
	{	if (!z->escp[i]) break;
		printf(" esc %d", z->escp[i]);
	}
#endif
	printf("]");
	printf(" [%s%s%s%s%s] %s:%d => ",
		z->atom&6?"A":z->atom&32?"D":"-",
		accpstate[n][j]?"a" :"-",
		stopstate[n][j]?"e" : "-",
		progstate[n][j]?"p" : "-",
		z->atom & 8 ?"L":"G",
		PanSource, srcln[j]);
	for (i = 0; z->tp[i]; i++)
		if (z->tp[i] == '\n')
			printf("\\n");
		else
			putchar(z->tp[i]);
	if (verbose && z->qu[0])
	{	printf("\t[");
		for (i = 0; i < 6; i++)
			if (z->qu[i])
				printf("(%d,%d)",
				z->qu[i], z->ty[i]);
		printf("]");
	}
	printf("\n");
	fflush(stdout);
}
/* spin -a m.pml; cc -o pan pan.c; ./pan -D | dot -Tps > foo.ps; ps2pdf foo.ps */
void
dot_crack(int n, int j, Trans *z)
{	int i;

	if (!z) return;
	printf("	S%d -> S%d  [color=black", j, z->st);

	if (z->atom&6) printf(",style=dashed");
	else if (z->atom&32) printf(",style=dotted");
	else if (z->atom&8) printf(",style=solid");
	else printf(",style=bold");

	printf(",label=\"");
	for (i = 0; z->tp[i]; i++)
	{	if (z->tp[i] == '\\'
		&&  z->tp[i+1] == 'n')
		{	i++; printf(" ");
		} else
		{	putchar(z->tp[i]);
	}	}
	printf("\"];\n");
	if (accpstate[n][j]) printf("  S%d [color=red,style=bold];\n", j);
	else if (progstate[n][j]) printf("  S%d [color=green,style=bold];\n", j);
	if (stopstate[n][j]) printf("  S%d [color=blue,style=bold,shape=box];\n", j);
}

#ifdef VAR_RANGES
#define BYTESIZE	32	/* 2^8 : 2^3 = 256:8 = 32 */

typedef struct Vr_Ptr {
	char	*nm;
	uchar	vals[BYTESIZE];
	struct Vr_Ptr *nxt;
} Vr_Ptr;
Vr_Ptr *ranges = (Vr_Ptr *) 0;

void
logval(char *s, int v)
{	Vr_Ptr *tmp;

	if (v<0 || v > 255) return;
	for (tmp = ranges; tmp; tmp = tmp->nxt)
		if (!strcmp(tmp->nm, s))
			goto found;
	tmp = (Vr_Ptr *) emalloc(sizeof(Vr_Ptr));
	tmp->nxt = ranges;
	ranges = tmp;
	tmp->nm = s;
found:
	tmp->vals[(v)/8] |= 1<<((v)%8);
}

void
dumpval(uchar X[], int range)
{	int w, x, i, j = -1;

	for (w = i = 0; w < range; w++)
	for (x = 0; x < 8; x++, i++)
	{
from:		if ((X[w] & (1<<x)))
		{	printf("%d", i);
			j = i;
			goto upto;
	}	}
	return;
	for (w = 0; w < range; w++)
	for (x = 0; x < 8; x++, i++)
	{
upto:		if (!(X[w] & (1<<x)))
		{	if (i-1 == j)
				printf(", ");
			else
				printf("-%d, ", i-1);
			goto from;
	}	}
	if (j >= 0 && j != 255)
		printf("-255");
}

void
dumpranges(void)
{	Vr_Ptr *tmp;
	printf("\nValues assigned within ");
	printf("interval [0..255]:\n");
	for (tmp = ranges; tmp; tmp = tmp->nxt)
	{	printf("\t%s\t: ", tmp->nm);
		dumpval(tmp->vals, BYTESIZE);
		printf("\n");
	}
}
#endif
