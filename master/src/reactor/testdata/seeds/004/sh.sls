Send sh to Slack:
  local.slack.post_message:
    - tgt: {{ data['id'] }}
    - kwarg:
         channel: "[Slack Channel Name]"
         api_key: "[Slack API Key]"
        message: "{{ data['id'] }} : user {{ data['user'] }} ran command {{ data['cmd'] }} with arguments {{ data['args']  }}."
        from_name: "Sh Bot"
