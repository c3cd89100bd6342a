package audit

import "strings"

// baseTools are what every script may use: builtins of shells, the utilities
// of POSIX and GNU coreutils, and what no system for scripts is without.
func baseTools() map[string]bool {
	return set(`
		. : [ [[ alias bg bind break builtin caller case cd command compgen complete continue declare dirs disown
		echo enable eval exec exit export false fc fg getopts hash help history if jobs kill let local logout mapfile
		popd printf pushd pwd read readarray readonly return select set shift shopt source suspend test time times
		trap true type typeset ulimit umask unalias unset until wait while

		ar arch asa at awk b2sum base32 base64 basename batch bc cal cat chcon chgrp chmod chown chroot cksum cmp
		comm compress cp crontab csplit cut date dd df diff dir dircolors dirname du ed egrep env ex expand expr
		factor fgrep file find fmt fold getconf getopt grep groups gunzip gzip head hostid hostname iconv id install ipcs
		join link ln locale logger logname ls lsof m4 make man md5sum mesg mkdir mkfifo mknod mktemp more mount mv
		newgrp nice nl nohup nproc numfmt od paste patch pathchk pax pinky ps pr printenv ptx ps readlink realpath
		renice rm rmdir runcon sed seq setsid sh bash sha1sum sha224sum sha256sum sha384sum sha512sum shred shuf sleep
		sort split stat stdbuf strings stty sum sync tabs tac tail talk tar tee timeout touch tput tr truncate
		tsort tty umount uname unexpand uniq unlink uptime users vdir vi w wc which who whoami write xargs yes zcat

		admin c17 c99 cflow ctags cxref delta fort77 fuser gencat get gettext ipcrm lex localedef lp mailx msgfmt ngettext nm
		prs qalter qdel qhold qmove qmsg qrerun qrls qselect qsig qstat qsub rmdel sact sccs strip unget uucp
		uudecode uuencode uustat uux val what xgettext yacc`)
}

// baseVariables are what the shell, a login or the system sets.
func baseVariables() map[string]bool {
	return set(`
		HOME PATH PWD OLDPWD USER LOGNAME SHELL TERM LANG LANGUAGE LC_ALL LC_CTYPE LC_COLLATE LC_MESSAGES LC_NUMERIC
		LC_TIME TMPDIR TZ IFS PS1 PS2 PS3 PS4 ENV MAIL EDITOR VISUAL PAGER COLUMNS LINES HOSTNAME HOSTTYPE MACHTYPE
		OSTYPE OPTARG OPTIND OPTERR PPID LINENO RANDOM SRANDOM SECONDS EPOCHSECONDS EPOCHREALTIME REPLY SHLVL UID EUID
		GROUPS BASH BASHPID BASHOPTS BASH_SOURCE BASH_LINENO BASH_VERSION BASH_VERSINFO BASH_REMATCH BASH_ARGV
		BASH_ARGC BASH_ENV BASH_COMMAND BASH_SUBSHELL BASH_XTRACEFD FUNCNAME PIPESTATUS DIRSTACK SHELLOPTS COMP_WORDS
		COMP_CWORD COMP_LINE COMP_POINT COMPREPLY MAPFILE COPROC KSH_VERSION _`)
}

func set(words string) map[string]bool {
	all := map[string]bool{}
	for word := range strings.FieldsSeq(words) {
		all[word] = true
	}
	return all
}
