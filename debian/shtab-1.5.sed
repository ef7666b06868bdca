# Debian 12's shtab offers the first of several choices alone, as of the subcommands. Later ones have no such lines.
s/_choices"$/_choices[*]"/
s/compgen -W "\${current_action_choices}"/IFS=" " &/
